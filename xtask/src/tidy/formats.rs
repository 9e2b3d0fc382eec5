//! Format pages and the `layout.rs` files they describe move together.
//!
//! A page carries the hash of its `layout.rs` (comments, blanks and tests left out) and a table, between two
//! markers, that a test of the crate generates from the layout and compares. The hash makes whoever changes
//! a layout open its page; the test, which must name the page's file to read it, keeps the table true.

use super::{Fault, File, Tree};
use crate::lexer::{self, Kind};

/// Folder of the pages.
const PAGES: &str = "docs/format";

/// What stands before a hash.
const HASH: &str = "layout-hash: ";

/// What stands round a generated table.
const MARKERS: [&str; 2] = ["<!-- layout:begin -->", "<!-- layout:end -->"];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (layout, page) in layouts(tree) {
        if !has_reader(tree, layout, &page) {
            faults.push(layout.fault(0, format!("no test of its crate reads {page} to compare the table")));
        }
        let Some(page) = tree.file(&page) else {
            faults.push(layout.fault(0, format!("has no page {page}")));
            continue;
        };
        if !MARKERS.iter().all(|marker| page.text.contains(marker)) {
            faults.push(page.fault(0, format!("has no table between {} and {}", MARKERS[0], MARKERS[1])));
        }
        if !page.text.contains(&hash_line(layout)) {
            let what = format!(
                "describes another {}: mend the page, then `cargo xtask tidy --bless` (now {:016x})",
                layout.path,
                hash(layout)
            );
            faults.push(page.fault(0, what));
        }
    }
    faults
}

/// The pages whose hash line is not today's, with today's.
pub(super) fn blessed(tree: &Tree) -> Vec<(String, String)> {
    let pages = layouts(tree).filter_map(|(layout, page)| Some((layout, tree.file(&page)?)));
    let stale = pages.filter(|(layout, page)| !page.text.contains(&hash_line(layout)));
    stale.map(|(layout, page)| (page.path.clone(), with_hash(&page.text, &hash_line(layout)))).collect()
}

/// Each `crates/NAME/src/layout.rs` and the path of its page.
fn layouts(tree: &Tree) -> impl Iterator<Item = (&File, String)> {
    tree.files.iter().filter_map(|file| {
        let name = file.path.strip_prefix("crates/")?.strip_suffix("/src/layout.rs")?;
        let page = if name == "shm" { "region" } else { name };
        Some((file, format!("{PAGES}/{page}.md")))
    })
}

/// Whether a string in the layout's crate names the page, as a test must that reads it.
fn has_reader(tree: &Tree, layout: &File, page: &str) -> bool {
    let folder = layout.path.trim_end_matches("src/layout.rs");
    let mut sources = tree.rust().filter(|(path, _)| path.starts_with(folder));
    sources.any(|(_, text)| {
        lexer::code(text).iter().any(|token| token.kind == Kind::Text && token.text.ends_with(page))
    })
}

fn hash_line(layout: &File) -> String {
    format!("{HASH}{:016x}", hash(layout))
}

/// FNV-1a over the words and marks of the file.
fn hash(layout: &File) -> u64 {
    let code = layout.product_code();
    let bytes = code.iter().flat_map(|token| token.text.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn with_hash(page: &str, line: &str) -> String {
    let Some(at) = page.find(HASH) else {
        return format!("{}\n\n<!-- {line} -->\n", page.trim_end());
    };
    let digits = page[at + HASH.len()..].find(|c: char| !c.is_ascii_hexdigit());
    let end = digits.map_or(page.len(), |digits| at + HASH.len() + digits);
    format!("{}{line}{}", &page[..at], &page[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: &str = "crates/wksp/src/layout.rs";
    const PAGE: &str = "docs/format/wksp.md";
    const READER: (&str, &str) =
        ("crates/wksp/tests/page.rs", "include_str!(\"../../../docs/format/wksp.md\");");

    fn faults(layout: &str, page: &str) -> Vec<Fault> {
        check(&Tree::of(&[(LAYOUT, layout), (PAGE, page), READER]))
    }

    fn blessed_page(layout: &str) -> String {
        let page = "# Page\n<!-- layout:begin -->\n<!-- layout:end -->\n";
        let (_, text) = blessed(&Tree::of(&[(LAYOUT, layout), (PAGE, page)])).remove(0);
        text
    }

    #[test]
    fn a_layout_that_moves_without_its_page_is_reported() {
        let page = blessed_page("const A: u64 = 8;");
        assert_eq!(faults("const A: u64 = 16;", &page).len(), 1);
        let (_, mended) = blessed(&Tree::of(&[(LAYOUT, "const A: u64 = 16;"), (PAGE, &page)])).remove(0);
        assert_eq!(mended.matches(HASH).count(), 1, "{mended}");
        assert_eq!(faults("const A: u64 = 16;", &mended), []);
    }

    #[test]
    fn comments_and_blanks_do_not_count() {
        let page = blessed_page("const A: u64 = 8;");
        let same = "// why\nconst A :u64\n= 8;\n#[cfg(test)] mod tests { fn f() {} }";
        assert_eq!(faults(same, &page), []);
    }

    #[test]
    fn a_layout_without_a_page_a_table_or_a_test_is_reported() {
        assert_eq!(check(&Tree::of(&[(LAYOUT, ""), READER])).len(), 1);
        let page = blessed_page("");
        assert_eq!(faults("", &page.replace("layout:begin", "begin")).len(), 1);
        assert_eq!(check(&Tree::of(&[(LAYOUT, ""), (PAGE, &page)])).len(), 1);
    }
}
