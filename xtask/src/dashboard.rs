//! The panels of packaging/monitoring/certwarden.dashboard.json, drawn with what a real Prometheus (`host:port`) answers to
//! their expressions. Not Grafana: a picture of its layout and of real data, for where there is no Grafana.
#![allow(clippy::indexing_slicing, reason = "absent members of a JSON value are null")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "pixels")]

use std::fmt::Write as _;
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::pages::repository;

const DASHBOARD: &str = include_str!("../../packaging/monitoring/certwarden.dashboard.json");
/// Pixels of a column (of 24) and of a row of the grid.
const COLUMN: f64 = 52.0;
const ROW: f64 = 32.0;
/// What is drawn of the past, in seconds, and how finely.
const PAST: u64 = 1800;
const STEP: u64 = 15;
const COLOURS: [&str; 8] = ["#73bf69", "#5794f2", "#f2cc0c", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#96d98d"];

/// `docs/dashboard.svg`.
pub fn write(prometheus: &str) -> crate::Result<()> {
    let svg = draw(prometheus).map_err(|e| format!("{prometheus}: {e}"))?;
    std::fs::write(repository().join("docs/dashboard.svg"), svg + "\n")?;
    Ok(())
}

fn draw(prometheus: &str) -> Result<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().cloned().unwrap_or_default();
    let (mut body, mut height) = (String::new(), 0.0_f64);
    for panel in &panels {
        let at = |key: &str| panel["gridPos"][key].as_f64().unwrap_or_default();
        let (x, y) = (at("x") * COLUMN, at("y") * ROW);
        let (w, h) = (at("w") * COLUMN - 6.0, at("h") * ROW - 6.0);
        height = height.max(y + h + 6.0);
        let title = panel["title"].as_str().unwrap_or_default().replace("$instance", "node-1");
        let _ = write!(body, "<g transform=\"translate({x:.0},{y:.0})\">");
        if panel["type"] == "row" {
            let _ = writeln!(body, "<text x=\"4\" y=\"20\" class=\"row\">{}</text></g>", escaped(&title));
            continue;
        }
        let _ = write!(
            body,
            "<rect width=\"{w:.0}\" height=\"{h:.0}\" class=\"panel\"/><text x=\"8\" y=\"18\" class=\"title\">{}</text>",
            escaped(&title)
        );
        match panel["type"].as_str() {
            Some("stat") => stat(prometheus, panel, w, h, &mut body)?,
            Some("table") => table(prometheus, panel, w, h, &mut body)?,
            _ => series(prometheus, panel, w, h, &mut body)?,
        }
        body.push_str("</g>\n");
    }
    let width = 24.0 * COLUMN;
    let style = "text{font:12px sans-serif;fill:#d8d9da}.row{font-size:16px}.title{font-weight:bold}.panel{fill:#181b1f;stroke:#2c3235}\
                 .small{font-size:10px}.big{font-size:30px;fill:#fff}path{fill:none;stroke-width:1.5}";
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\"><style>{style}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"#111217\"/>\n{body}</svg>"
    ))
}

fn stat(prometheus: &str, panel: &Value, w: f64, h: f64, body: &mut String) -> Result<()> {
    let found = query(prometheus, &expression(&panel["targets"][0]))?;
    let value = found.first().and_then(|f| number(&f["value"][1]));
    let defaults = &panel["fieldConfig"]["defaults"];
    let steps = defaults["thresholds"]["steps"].as_array().cloned().unwrap_or_default();
    let mut reached = steps.iter().filter(|s| value.unwrap_or_default() >= s["value"].as_f64().unwrap_or(f64::MIN));
    let colour = match reached.next_back().and_then(|s| s["color"].as_str()) {
        Some("green") => "#1a7f37",
        Some("yellow") => "#9e8500",
        Some("orange") => "#b35900",
        Some(_) => "#b3202c",
        None => "#333",
    };
    let text = value.map_or("no data".to_owned(), |v| with_unit(v, defaults["unit"].as_str().unwrap_or_default()));
    let _ = write!(
        body,
        "<rect x=\"1\" y=\"26\" width=\"{:.0}\" height=\"{:.0}\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.0}\" class=\"big\" \
         text-anchor=\"middle\">{text}</text>",
        w - 2.0,
        h - 27.0,
        w / 2.0,
        h / 2.0 + 22.0
    );
    Ok(())
}

fn table(prometheus: &str, panel: &Value, w: f64, h: f64, body: &mut String) -> Result<()> {
    let hidden = &panel["transformations"]
        [panel["transformations"].as_array().map_or(0, |t| t.len().saturating_sub(1))]["options"]["excludeByName"];
    let mut rows: Vec<(f64, String)> = Vec::new();
    for target in panel["targets"].as_array().into_iter().flatten() {
        for found in query(prometheus, &expression(target))? {
            let labels = found["metric"].as_object().cloned().unwrap_or_default();
            let shown = |k: &String| k != "node" && k != "__name__" && hidden[k.as_str()] != true;
            let words: Vec<&str> = labels.iter().filter(|(k, _)| shown(k)).filter_map(|(_, v)| v.as_str()).collect();
            let value = number(&found["value"][1]).unwrap_or_default();
            let text = words.join("  ·  ");
            rows.push((value, if hidden["Value"] == true { text } else { format!("{value:>9.1}   {text}") }));
        }
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (i, (_, text)) in rows.iter().enumerate() {
        let y = 36.0 + i as f64 * 14.0;
        if y < h - 4.0 {
            let fits = text.chars().take((w / 5.6) as usize).collect::<String>();
            let _ = write!(
                body,
                "<text x=\"8\" y=\"{y:.0}\" class=\"small\" xml:space=\"preserve\">{}</text>",
                escaped(&fits)
            );
        }
    }
    Ok(())
}

fn series(prometheus: &str, panel: &Value, w: f64, h: f64, body: &mut String) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default();
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for target in panel["targets"].as_array().into_iter().flatten() {
        let path =
            format!("query_range?start={}&end={now}&step={STEP}&query={}", now - PAST, encoded(&expression(target)));
        for found in ask(prometheus, &path)? {
            let point = |p: &Value| Some((p[0].as_f64()?, number(&p[1])?));
            let points = found["values"].as_array().into_iter().flatten().filter_map(point).collect();
            lines.push((legend(target, &found["metric"]), points));
        }
    }
    let all = || lines.iter().flat_map(|(_, points)| points).map(|p| p.1);
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
    if low > high {
        body.push_str("<text x=\"8\" y=\"44\" class=\"small\">no data</text>");
        return Ok(());
    }
    let (low, high) = if high - low < 1e-9 { (low.min(0.0), high.max(low + 1.0)) } else { (low, high) };
    let (top, bottom, left) = (28.0, h - 34.0, 48.0);
    for (share, value) in [(0.0, low), (0.5, f64::midpoint(low, high)), (1.0, high)] {
        let y = bottom - share * (bottom - top);
        let _ = write!(
            body,
            "<path d=\"M{left} {y:.1}H{:.0}\" stroke=\"#2c3235\"/><text x=\"6\" y=\"{:.1}\" class=\"small\">{value:.1}</text>",
            w - 6.0,
            y + 4.0
        );
    }
    let mut x = 8.0;
    for (i, (name, points)) in lines.iter().enumerate().take(14) {
        let colour = COLOURS.get(i % COLOURS.len()).copied().unwrap_or("#fff");
        let mut path = String::new();
        for (at, value) in points {
            let px = left + (at - (now - PAST) as f64) / PAST as f64 * (w - left - 8.0);
            let py = bottom - (value - low) / (high - low) * (bottom - top);
            let _ = write!(path, "{}{px:.1} {py:.1}", if path.is_empty() { "M" } else { "L" });
        }
        let _ = write!(body, "<path d=\"{path}\" stroke=\"{colour}\"/>");
        if x < w - 60.0 {
            let _ = write!(
                body,
                "<text x=\"{x:.0}\" y=\"{:.0}\" class=\"small\" style=\"fill:{colour}\">{}</text>",
                h - 10.0,
                escaped(name)
            );
            x += 12.0 + name.chars().count() as f64 * 5.6;
        }
    }
    Ok(())
}

fn legend(target: &Value, metric: &Value) -> String {
    let mut text = target["legendFormat"].as_str().unwrap_or_default().to_owned();
    for (name, value) in metric.as_object().into_iter().flatten() {
        text = text.replace(&format!("{{{{{name}}}}}"), value.as_str().unwrap_or_default());
    }
    text
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "s" if value >= 172_800.0 => format!("{:.0} d", value / 86_400.0),
        "s" if value >= 120.0 => format!("{:.0} min", value / 60.0),
        "s" => format!("{value:.0} s"),
        _ => format!("{value:.0}"),
    }
}

fn expression(target: &Value) -> String {
    target["expr"]
        .as_str()
        .unwrap_or_default()
        .replace("$job", ".+")
        .replace("$instance", ".+")
        .replace("$__interval", "1m")
}

fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}

fn query(prometheus: &str, expr: &str) -> Result<Vec<Value>> {
    ask(prometheus, &format!("query?query={}", encoded(expr)))
}

fn ask(prometheus: &str, path: &str) -> Result<Vec<Value>> {
    let mut stream = TcpStream::connect(prometheus)?;
    stream.write_all(format!("GET /api/v1/{path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let json = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let value: Value = serde_json::from_str(json)?;
    value["data"]["result"].as_array().cloned().ok_or_else(|| Error::other(format!("{path}: {json}")))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "%{byte:02X}");
        all
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
