//! Rust source cut into words, marks and comments, with line numbers: enough to look for a keyword that is
//! really one, and not a word of a string or a comment.
//!
//! # Invariants
//! - The text of a string or character literal never appears in a token: literals become one opaque token,
//!   apart from [`Kind::Text`], which keeps a string's contents for those who ask for it.
//! - Any text is accepted; what is not Rust gives tokens that are of no use, never a panic.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Identifier or keyword (a raw identifier without its `r#`).
    Word,
    /// One character of punctuation.
    Mark,
    /// Number, character, byte or lifetime.
    Literal,
    /// String of any kind; its text is what stands between the quotes, escapes as written.
    Text,
    /// Comment of any kind, with its slashes.
    Comment,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its characters.
    pub(crate) text: &'t str,
    /// Line of its first character, from 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    /// Whether it is this word or mark.
    pub(crate) fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Mark) && self.text == text
    }
}

/// Cuts a source text into tokens, comments included.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { source, at: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(token) = scanner.next_token() {
        tokens.push(token);
    }
    tokens
}

/// The tokens without the comments.
pub(crate) fn code(source: &str) -> Vec<Token<'_>> {
    let mut tokens = tokens(source);
    tokens.retain(|token| token.kind != Kind::Comment);
    tokens
}

/// Whether a row of words and marks begins at a place.
pub(crate) fn row_at(tokens: &[Token<'_>], at: usize, row: &[&str]) -> bool {
    tokens
        .get(at..at + row.len())
        .is_some_and(|found| found.iter().zip(row).all(|(token, text)| token.is(text)))
}

/// Index of the bracket that closes the one at `open`, else the last token's.
pub(crate) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open).filter(|(_, token)| token.kind == Kind::Mark) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len().saturating_sub(1)
}

struct Scanner<'t> {
    source: &'t str,
    at: usize,
    line: usize,
}

impl<'t> Scanner<'t> {
    fn next_token(&mut self) -> Option<Token<'t>> {
        let rest = self.source[self.at..].trim_start();
        self.advance(self.source.len() - self.at - rest.len());
        let first = rest.chars().next()?;
        let (kind, length, text) = measure(rest, first);
        let token = Token { kind, text, line: self.line };
        self.advance(length);
        Some(token)
    }

    fn advance(&mut self, length: usize) {
        let passed = &self.source[self.at..self.at + length];
        self.line += passed.bytes().filter(|byte| *byte == b'\n').count();
        self.at += length;
    }
}

/// Kind, length and text of the token that begins `rest`.
fn measure(rest: &str, first: char) -> (Kind, usize, &str) {
    let whole = |kind, length: usize| (kind, length, &rest[..length]);
    if rest.starts_with("//") {
        return whole(Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return whole(Kind::Comment, block_comment(rest));
    }
    if let Some((length, inner)) = string(rest) {
        return (Kind::Text, length, inner);
    }
    if first == '\'' || rest.starts_with("b'") {
        return whole(Kind::Literal, quoted_or_lifetime(rest));
    }
    if let Some(raw) = rest.strip_prefix("r#").filter(|raw| raw.starts_with(is_word_start)) {
        let length = word(raw);
        return (Kind::Word, 2 + length, &raw[..length]);
    }
    if is_word_start(first) {
        return whole(Kind::Word, word(rest));
    }
    if first.is_ascii_digit() {
        return whole(Kind::Literal, word(rest));
    }
    whole(Kind::Mark, first.len_utf8())
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let left = &rest.as_bytes()[at..];
        let step = match left {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length and contents of a string literal of any kind, if one begins here.
fn string(rest: &str) -> Option<(usize, &str)> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let hashes: &[char] = if prefix.ends_with('r') { &['#'] } else { &[] };
        rest.strip_prefix(prefix).is_some_and(|after| after.trim_start_matches(hashes).starts_with('"'))
    })?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let open = prefix.len() + hashes + 1;
    if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        let inner = rest[open..].find(&end).unwrap_or(rest.len() - open);
        return Some(((open + inner + end.len()).min(rest.len()), &rest[open..open + inner]));
    }
    let inner = unescaped_end(&rest[open..], '"');
    Some(((open + inner + 1).min(rest.len()), &rest[open..open + inner]))
}

/// Place of the first `end` that no backslash stands before.
fn unescaped_end(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return at,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character or byte literal or of a lifetime.
fn quoted_or_lifetime(rest: &str) -> usize {
    let open = rest.find('\'').unwrap_or(0) + 1;
    let inner = &rest[open..];
    let mut chars = inner.chars();
    let is_char = match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    };
    if is_char { (open + unescaped_end(inner, '\'') + 1).min(rest.len()) } else { open + word(inner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        code(source).iter().filter(|token| token.kind == Kind::Word).map(|token| token.text).collect()
    }

    #[test]
    fn strings_and_comments_hide_their_words() {
        assert_eq!(words("a /* unsafe /* b */ c */ d // e\nf"), ["a", "d", "f"]);
        assert_eq!(
            words(r##"x("unsafe \" y", r#"unsafe " z"#, b"q", br"w", c"v", 'u', '\'', b'\n')"##),
            ["x"]
        );
        assert_eq!(
            words("fn f<'a>(x: &'a str) -> &'static str { r#type }"),
            ["fn", "f", "x", "str", "str", "type"]
        );
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let tokens = tokens("a\n\"two\nlines\"\n/* and\nmore */ b");
        let b = tokens.last().unwrap();
        assert_eq!((b.text, b.line), ("b", 5));
        assert_eq!((tokens[1].kind, tokens[1].text, tokens[1].line), (Kind::Text, "two\nlines", 2));
    }

    #[test]
    fn brackets_are_matched() {
        let tokens = code("fn f() { (a[1]) } g");
        let open = tokens.iter().position(|token| token.is("{")).unwrap();
        assert!(tokens[closing(&tokens, open)].is("}"));
    }

    #[test]
    fn what_is_not_rust_does_not_panic() {
        for text in ["\"", "r#\"", "'", "b'", "/*", "r#", "'\\", "\"\\", "é'ü", "0x", "br#", "\u{0}"] {
            let _ = tokens(text);
        }
    }
}
