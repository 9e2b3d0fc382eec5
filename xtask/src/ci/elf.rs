//! The one thing needed of an ELF file: the bytes of a section.

/// The bytes of the section with this name in a 64-bit little-endian ELF file.
pub(super) fn section<'f>(file: &'f [u8], name: &str) -> Option<&'f [u8]> {
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, entry_size) = (number(file, 0x28, 8)?, number(file, 0x3a, 2)?);
    let (count, names_index) = (number(file, 0x3c, 2)?, number(file, 0x3e, 2)?);
    let header = |index: usize| file.get(table + index * entry_size..);
    let names = contents(file, header(names_index)?)?;
    let found = (0..count).filter_map(header).find(|header| {
        let begin = number(header, 0, 4).unwrap_or(usize::MAX);
        names.get(begin..).and_then(|rest| rest.split(|byte| *byte == 0).next()) == Some(name.as_bytes())
    })?;
    contents(file, found)
}

fn contents<'f>(file: &'f [u8], header: &[u8]) -> Option<&'f [u8]> {
    let begin = number(header, 0x18, 8)?;
    file.get(begin..begin.checked_add(number(header, 0x20, 8)?)?)
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let digits = bytes.get(at..at.checked_add(size)?)?;
    Some(digits.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with one section and the table of names.
    pub(crate) fn sample(name: &str, bytes: &[u8]) -> Vec<u8> {
        let names = format!("\0{name}\0");
        let mut file = vec![0; 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file.extend_from_slice(bytes);
        file.extend_from_slice(names.as_bytes());
        let table = file.len();
        for (at, value) in [(0x28, table), (0x3a, 0x40), (0x3c, 2), (0x3e, 1)] {
            put(&mut file, at, value);
        }
        for (name_at, begin, size) in [(1, 0x40, bytes.len()), (0, 0x40 + bytes.len(), names.len())] {
            let mut header = vec![0; 0x40];
            for (at, value) in [(0, name_at), (0x18, begin), (0x20, size)] {
                put(&mut header, at, value);
            }
            file.extend_from_slice(&header);
        }
        file
    }

    fn put(file: &mut [u8], at: usize, value: usize) {
        file[at] = (value & 0xff) as u8;
        file[at + 1] = (value >> 8) as u8;
    }

    #[test]
    fn a_section_is_found_by_name() {
        let file = sample(".text", b"abc");
        assert_eq!(section(&file, ".text"), Some(b"abc".as_slice()));
        assert_eq!(section(&file, ".data"), None);
    }

    #[test]
    fn what_is_no_elf_file_has_no_sections() {
        let file = sample(".text", b"abc");
        assert_eq!(section(b"#!/bin/sh", ".text"), None);
        for end in 0..file.len() {
            let _ = section(&file[..end], ".text");
        }
    }
}
