//! The page and the code show the same layout, and neither moves unnoticed.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::*;

const PAGE: &str = "../../docs/format/checkpt.md";
const BEGIN: &str = "<!-- layout:begin -->\n";
const END: &str = "<!-- layout:end -->";

/// The tables as the page shows them.
fn markdown() -> String {
    let tables =
        [preamble::TABLE, record::TABLE, header::TABLE, partition::TABLE, index::TABLE, footer::TABLE];
    let mut text = String::new();
    for table in tables {
        let _ = writeln!(
            text,
            "\n### {} ({} bytes)\n\n| offset | size | field | content |\n|--:|--:|---|---|",
            table.title, table.size
        );
        for row in table.rows {
            let name = row.name.to_ascii_lowercase();
            let _ = writeln!(text, "| {} | {} | `{name}` | {} |", row.offset, row.size, row.text);
        }
    }
    text
}

#[test]
fn layout_is_pinned() {
    insta::assert_snapshot!("checkpt", markdown());
}

#[test]
fn page_shows_the_layout() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let Ok(page) = fs::read_to_string(&path) else {
        println!("skipped: {PAGE} is not part of a packaged crate");
        return;
    };
    let (_, rest) = page.split_once(BEGIN).expect("the page has a begin mark");
    let (table, _) = rest.split_once(END).expect("the page has an end mark");
    assert!(table == markdown(), "copy the new tables from the snapshot into {PAGE} between its marks");
}

#[test]
fn fields_are_little_endian_at_their_offsets() {
    let mut bytes = [0; record::SIZE];
    record::NUMBER.put(&mut bytes, 0x0102_0304_0506_0708);
    assert_eq!(bytes[24..32], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(record::NUMBER.get(&bytes), 0x0102_0304_0506_0708);
    assert_eq!(MARKER.to_le_bytes(), [0xD7, b'R', b'E', b'C']);
    let mut bytes = [0; footer::SIZE];
    assert_eq!(footer::RESERVED.first_set(&bytes), None);
    bytes[147] = 1;
    assert_eq!(footer::RESERVED.first_set(&bytes), Some(147));
}
