//! What was saved, apart from its bytes: [`Meta`], stored as the HEADER and INFO records.

use serde_json::{Map, Value};

use crate::error::{Fault, ReadError, What, WriteError};
use crate::layout::{INFO_BYTES_MAX, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, header, record};
use crate::style::Style;

/// Longest name in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a checkpoint says about what was saved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta {
    /// Name of the workspace, at most 64 bytes.
    pub name: String,
    /// Size of its data region: every partition ends at or below it.
    pub data_max_bytes: u64,
    /// Its seed; descriptive.
    pub seed: u32,
    /// Its page size; descriptive.
    pub page_size_bytes: u64,
    /// Anything else worth knowing, at most 64 KiB as JSON; never needed to restore.
    pub info: Map<String, Value>,
}

impl Meta {
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        let size_bytes = self.name.len();
        if size_bytes > NAME_BYTES_MAX {
            return Err(WriteError::NameTooLong { size_bytes, max_bytes: NAME_BYTES_MAX });
        }
        Ok(())
    }

    /// The INFO payload.
    pub(crate) fn encode_info(&self) -> Result<Vec<u8>, WriteError> {
        let text = Value::Object(self.info.clone()).to_string().into_bytes();
        if text.len() > INFO_BYTES_MAX {
            return Err(WriteError::InfoTooLarge { size_bytes: text.len(), max_bytes: INFO_BYTES_MAX });
        }
        // The parser bounds the depth, the printer does not: what cannot be read back is not written.
        match decode_info(&text, 0) {
            Ok(_) => Ok(text),
            Err(_) => Err(WriteError::InfoTooDeep),
        }
    }
}

/// Decodes an INFO payload that starts at `file_offset`.
pub(crate) fn decode_info(payload: &[u8], file_offset: u64) -> Result<Map<String, Value>, ReadError> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(info)) => Ok(info),
        Ok(_) => Err(Fault::new(What::Info, file_offset, b'{', payload.first().copied().unwrap_or(0)).into()),
        Err(error) => {
            // Line and column say where it stops being JSON.
            let (line, column) = (error.line() as u64, error.column() as u64);
            Err(Fault::new(What::Info, file_offset, line, column).into())
        }
    }
}

/// The HEADER payload without what [`Meta`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) window_bytes: u64,
    pub(crate) clock_unix_ns: u64,
    pub(crate) style: Style,
}

pub(crate) fn encode(meta: &Meta, shape: &Shape) -> [u8; header::SIZE] {
    let mut bytes = [0; header::SIZE];
    header::DATA_MAX_BYTES.put(&mut bytes, meta.data_max_bytes);
    header::PAGE_SIZE_BYTES.put(&mut bytes, meta.page_size_bytes);
    header::WINDOW_BYTES.put(&mut bytes, shape.window_bytes);
    header::CLOCK_UNIX_NS.put(&mut bytes, shape.clock_unix_ns);
    header::SEED.put(&mut bytes, meta.seed);
    header::FILE_STYLE.put(&mut bytes, shape.style.number());
    header::NAME_BYTES.put(&mut bytes, meta.name.len() as u8);
    let mut name = [0; NAME_BYTES_MAX];
    name[..meta.name.len()].copy_from_slice(meta.name.as_bytes());
    header::NAME.put(&mut bytes, &name);
    bytes
}

/// Decodes the HEADER payload of the record at `record_offset`.
pub(crate) fn decode(bytes: &[u8; header::SIZE], record_offset: u64) -> Result<(Meta, Shape), ReadError> {
    let at = |offset: usize| record_offset + (record::SIZE + offset) as u64;
    let reserved = [
        header::RESERVED.first_set(bytes),
        header::PARENT_ID.first_set(bytes),
        header::PARENT_ROOT.first_set(bytes),
        header::CHAIN_DEPTH.first_set(bytes),
        header::RESERVED_TAIL.first_set(bytes),
    ];
    if let Some(offset) = reserved.into_iter().flatten().next() {
        return Err(Fault::new(What::Reserved, at(offset), 0u8, bytes[offset]).into());
    }
    let window_bytes = header::WINDOW_BYTES.get(bytes);
    if !is_window(window_bytes) {
        return Err(Fault::new(What::HeaderField, at(16), WINDOW_BYTES_MIN, window_bytes).into());
    }
    let style_number = header::FILE_STYLE.get(bytes);
    let style = Style::from_number(style_number).ok_or(ReadError::UnsupportedStyle {
        what: "file style",
        number: style_number.into(),
        file_offset: at(36),
    })?;
    let meta = Meta {
        name: decode_name(bytes, at(96))?,
        data_max_bytes: header::DATA_MAX_BYTES.get(bytes),
        seed: header::SEED.get(bytes),
        page_size_bytes: header::PAGE_SIZE_BYTES.get(bytes),
        info: Map::new(),
    };
    Ok((meta, Shape { window_bytes, clock_unix_ns: header::CLOCK_UNIX_NS.get(bytes), style }))
}

fn decode_name(bytes: &[u8; header::SIZE], file_offset: u64) -> Result<String, Fault> {
    let name = header::NAME.get(bytes);
    let size = usize::from(header::NAME_BYTES.get(bytes));
    if size > NAME_BYTES_MAX {
        return Err(Fault::new(What::HeaderField, file_offset, NAME_BYTES_MAX as u64, size as u64));
    }
    let (name, padding) = name.split_at(size);
    if let Some(at) = padding.iter().position(|byte| *byte != 0) {
        return Err(Fault::new(What::Reserved, file_offset + (size + at) as u64, 0u8, padding[at]));
    }
    match str::from_utf8(name) {
        Ok(name) => Ok(name.to_owned()),
        Err(error) => {
            let at = error.valid_up_to();
            Err(Fault::new(What::HeaderField, file_offset + at as u64, 0u8, name[at]))
        }
    }
}

/// Whether the format allows windows of that size.
pub(crate) fn is_window(window_bytes: u64) -> bool {
    window_bytes.is_power_of_two() && (WINDOW_BYTES_MIN..=WINDOW_BYTES_MAX).contains(&window_bytes)
}
