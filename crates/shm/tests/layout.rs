//! The layout is pinned: a change of it is a change of the format, and of its page.

#[test]
fn layout_is_pinned() {
    insta::assert_snapshot!(outlast_shm::layout_table());
}

#[test]
fn format_page_has_the_layout() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/region.md");
    match std::fs::read_to_string(page) {
        Ok(text) => {
            assert!(text.contains(&outlast_shm::layout_table()), "docs/format/region.md is out of date")
        }
        Err(error) => println!("skipped: the package comes without its format page ({error})"),
    }
}
