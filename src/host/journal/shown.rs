//! What goes to journald is fit to be shown. journalctl obeys no control characters, but it hides the whole message that has
//! one (systemd: `src/shared/logs-show.c:shall_print`), and it passes on what turns a line around.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Value, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::model::plain;

/// Records as the layer within is to write them: each value on one line.
pub(super) struct Shown<L>(pub(super) L);

impl<S: Subscriber + for<'a> LookupSpan<'a>, L: Layer<S>> Layer<S> for Shown<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut values = Values(vec![None; fields.len()]);
        event.record(&mut values);
        let values: Vec<Option<&dyn Value>> = values.0.iter().map(|v| v.as_ref().map(|v| v as &dyn Value)).collect();
        self.0.on_event(&Event::new(event.metadata(), &fields.value_set_all(&values)), context);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // names of transactions and steps, which are certwarden's own
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }
}

/// By the number of their field.
struct Values(Vec<Option<String>>);

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(place) = self.0.get_mut(field.index()) {
            *place = Some(plain::one_line(value).into_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_ok() {
            self.record_str(field, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    /// What a layer is given: names and values.
    #[derive(Clone, Default)]
    struct Given(Arc<Mutex<Vec<(String, String)>>>);

    impl Visit for Given {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.lock().unwrap().push((field.name().to_owned(), format!("{value:?}")));
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.lock().unwrap().push((field.name().to_owned(), value.to_owned()));
        }
    }

    impl<S: Subscriber> Layer<S> for Given {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    #[test]
    fn what_goes_to_journald_is_plain_and_says_the_same() {
        let given = Given::default();
        let nobody: Option<&str> = None;
        tracing::subscriber::with_default(registry().with(Shown(given.clone())), || {
            tracing::warn!(
                MESSAGE_ID = "1234",
                cw_path = %"/etc/\u{202e}x\u{1b}[2J",
                cw_seconds = 7,
                cw_by = nobody,
                "{} does not start:\n{}",
                "kube-\u{200b}apiserver",
                "\u{9b}31mno"
            );
        });
        let mut given = given.0.lock().unwrap().clone();
        given.sort();
        let want = [
            ("MESSAGE_ID", "1234"),
            ("cw_path", "/etc/\u{fffd}x\u{fffd}[2J"),
            ("cw_seconds", "7"),
            ("message", "kube-\u{fffd}apiserver does not start: \u{fffd}31mno"),
        ];
        assert_eq!(given, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
