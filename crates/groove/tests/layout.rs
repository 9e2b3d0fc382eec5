//! The layout is pinned twice: by a snapshot, and by the format page, which carries the same table.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use outlast_groove::layout_table;

#[test]
fn the_layout_is_the_one_that_was_reviewed() {
    insta::assert_snapshot!("layout", layout_table());
}

#[test]
fn the_format_page_carries_the_layout() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/groove.md");
    // A packaged crate is without the page.
    let Ok(page) = std::fs::read_to_string(path) else { return };
    let table =
        page.split("<!-- layout:begin -->").nth(1).and_then(|rest| rest.split("<!-- layout:end -->").next());
    assert_eq!(
        table.map(str::trim),
        Some(layout_table().trim()),
        "docs/format/groove.md must hold this table"
    );
}
