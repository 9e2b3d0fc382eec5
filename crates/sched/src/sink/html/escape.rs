//! Text from elsewhere made harmless.
//!
//! # Invariants
//! - The result of [`text`] and [`lines`] has no `<`, `>`, `&` or quote but as a reference; that of [`json`] has no `<`.

use crate::sink::words::{many_lines, one_line};

/// On one line, for content and attributes.
pub(crate) fn text(text: &str) -> String {
    references(&one_line(text))
}

/// With its line breaks.
pub(crate) fn lines(text: &str) -> String {
    references(&many_lines(text))
}

/// A JSON value for a `script` element.
pub(crate) fn json(value: &serde_json::Value) -> String {
    // In JSON, these stand only within strings, where the escapes mean the same.
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn references(text: &str) -> String {
    let mut clean = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '<' => clean.push_str("&lt;"),
            '>' => clean.push_str("&gt;"),
            '&' => clean.push_str("&amp;"),
            '"' => clean.push_str("&quot;"),
            '\'' => clean.push_str("&#39;"),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        assert_eq!(text("<b a='1' c=\"2\">&\n"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\\n");
        assert_eq!(lines("a\n\u{1b}<"), "a\n\\u{1b}&lt;");
        assert_eq!(json(&serde_json::json!("</script>&")), r#""\u003c/script\u003e\u0026""#);
    }
}
