//! Booleans as the flags of Kubernetes and etcd take them (Go: `strconv.ParseBool`).

/// None for what Go calls a syntax error: the component does not start with it.
pub fn parse(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
