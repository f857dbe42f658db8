//! JSON in the order in which it was written, so that the files read well and compare byte for byte.

use std::fmt::Write;

/// A JSON value; objects keep their order.
pub(crate) enum Json {
    Number(i64),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// An object with these members.
pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> Json {
    Json::Text(hex_text(bytes.as_ref()))
}

pub(crate) fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "odd hex");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

pub(crate) fn number(value: impl TryInto<i64>) -> Json {
    Json::Number(value.try_into().unwrap_or(i64::MAX))
}

impl Json {
    /// Two-space indentation and a final line feed.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Number(value) => out.push_str(&value.to_string()),
            Self::Text(text) => out.push_str(&serde_json::to_string(text).unwrap()),
            Self::Array(items) => list(out, depth, ('[', ']'), items, |out, item| item.write(out, depth + 1)),
            Self::Object(members) => list(out, depth, ('{', '}'), members, |out, (name, value)| {
                out.push_str(&serde_json::to_string(name).unwrap());
                out.push_str(": ");
                value.write(out, depth + 1);
            }),
        }
    }
}

fn list<T>(
    out: &mut String,
    depth: usize,
    braces: (char, char),
    items: &[T],
    each: impl Fn(&mut String, &T),
) {
    out.push(braces.0);
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&"  ".repeat(depth + 1));
        each(out, item);
    }
    if !items.is_empty() {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push(braces.1);
}
