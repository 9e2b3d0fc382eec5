//! What can go wrong: one error per operation family, and the faults that a damaged file shows.

use core::fmt;
use core::ops::Range;
use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a [`Source`](crate::Source) could not deliver bytes: whatever error the source has.
#[derive(Debug)]
pub struct SourceError(Box<dyn Error + Send + Sync>);

/// Why a [`Sink`](crate::Sink) could not take bytes: whatever error the sink has.
#[derive(Debug)]
pub struct SinkError(Box<dyn Error + Send + Sync>);

macro_rules! boxed_error {
    ($name:ident) => {
        impl $name {
            /// Wraps the error of the implementation.
            pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
                Self(error.into())
            }

            /// The wrapped error, to be matched by `downcast_ref`.
            pub fn inner(&self) -> &(dyn Error + Send + Sync + 'static) {
                &*self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Error for $name {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.0.source()
            }
        }
    };
}

boxed_error!(SourceError);
boxed_error!(SinkError);

/// What is wrong with a partition list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartitionFault {
    /// Its size is 0.
    #[error("its size is 0")]
    Empty,
    /// Its tag is 0.
    #[error("its tag is 0")]
    Untagged,
    /// It starts before the one in front of it ends.
    #[error("it starts below {free_from:#x}, where the one before it ends")]
    Overlap {
        /// End of the partition before it.
        free_from: u64,
    },
    /// It ends beyond the data region.
    #[error("it ends beyond the data region of {data_max_bytes} bytes")]
    OutOfRange {
        /// Size of the data region.
        data_max_bytes: u64,
    },
}

/// A partition that cannot be saved, or that a file claims and cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("partition {index} at gaddr {gaddr:#x}: {fault}")]
pub struct PartitionError {
    /// Its place in the list, from 0.
    pub index: u64,
    /// Where it starts.
    pub gaddr: u64,
    /// What is wrong with it.
    pub fault: PartitionFault,
}

/// What was being written: a path, or a file the caller opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The final path of a published checkpoint.
    Path(PathBuf),
    /// The file given to [`write_to`](crate::write_to).
    OpenFile,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Path(path) => path.display().fmt(f),
            Target::OpenFile => f.write_str("the open file"),
        }
    }
}

/// Why a checkpoint was not written. [`write_file`](crate::write_file) leaves no file behind with any of
/// them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The partition list is not one.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The name is longer than the format can hold.
    #[error("name of {size_bytes} bytes: at most {max_bytes} are kept")]
    NameTooLong {
        /// Size of the name.
        size_bytes: usize,
        /// Largest size.
        max_bytes: usize,
    },
    /// The descriptive JSON is larger than the format can hold.
    #[error("descriptive information of {size_bytes} bytes as JSON: at most {max_bytes} are kept")]
    InfoTooLarge {
        /// Size of the JSON text.
        size_bytes: usize,
        /// Largest size.
        max_bytes: usize,
    },
    /// The descriptive JSON is nested deeper than a reader follows.
    #[error("descriptive information is nested too deep: at most 127 levels are kept")]
    InfoTooDeep,
    /// The window size is not a power of two in the allowed range.
    #[error("window of {window_bytes} bytes: expected a power of two from {min_bytes} to {max_bytes}")]
    WindowSize {
        /// Size asked for.
        window_bytes: u64,
        /// Smallest size.
        min_bytes: u64,
        /// Largest size.
        max_bytes: u64,
    },
    /// The mode has bits that are no permission bits.
    #[error("mode {mode:o}: expected at most 7777")]
    Mode {
        /// Mode asked for.
        mode: u32,
    },
    /// The path does not end in a file name.
    #[error("{path} does not name a file")]
    NotAFileName {
        /// The path.
        path: PathBuf,
    },
    /// Something has that name already; it was not touched.
    #[error("{path} exists: remove it or choose another name")]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// The file system or the quota is full.
    #[error(
        "no space for {target}: {written_bytes} bytes were written, up to {needed_bytes} are needed: free \
         some or choose another file system"
    )]
    NoSpace {
        /// What was being written.
        target: Target,
        /// Bytes that fitted.
        written_bytes: u64,
        /// Upper bound of the size of the file.
        needed_bytes: u64,
    },
    /// The process's file size limit (`RLIMIT_FSIZE`) or the file system's is too low. The limit is looked
    /// at before each write, so the process is not killed by SIGXFSZ.
    #[error(
        "{target} exceeds the file size limit of {limit_bytes} bytes, up to {needed_bytes} are needed: raise \
         it (ulimit -f)"
    )]
    TooLarge {
        /// What was being written.
        target: Target,
        /// The limit.
        limit_bytes: u64,
        /// Upper bound of the size of the file.
        needed_bytes: u64,
    },
    /// The source did not deliver a range.
    #[error("{size_bytes} bytes at gaddr {gaddr:#x} could not be read from the source")]
    Source {
        /// Start of the range.
        gaddr: u64,
        /// Size of the range.
        size_bytes: u64,
        /// The source's error.
        source: SourceError,
    },
    /// The [`Cancel`](crate::Cancel) flag was set.
    #[error("cancelled after {done_bytes} of {total_bytes} bytes")]
    Cancelled {
        /// Content bytes done.
        done_bytes: u64,
        /// Content bytes in all.
        total_bytes: u64,
    },
    /// The system refused.
    #[error("{step} failed for {target}")]
    Io {
        /// What was asked of it.
        step: &'static str,
        /// What was being written.
        target: Target,
        /// The system's error.
        source: io::Error,
    },
}

/// What a [`Fault`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum What {
    /// CRC of the preamble.
    #[error("checksum of the preamble")]
    PreambleChecksum,
    /// The preamble's own size.
    #[error("size of the preamble")]
    PreambleSize,
    /// CRC of the footer.
    #[error("checksum of the footer")]
    FooterChecksum,
    /// First eight bytes of the footer.
    #[error("start of the footer")]
    FooterStart,
    /// Last eight bytes of the file.
    #[error("end mark of the file")]
    EndMark,
    /// The identity differs between preamble and footer.
    #[error("identity in the footer")]
    Identity,
    /// The file's size differs from the footer's.
    #[error("size of the file")]
    FileSize,
    /// A section's offset is out of order.
    #[error("offset of a section")]
    SectionOffset,
    /// A reserved byte is set.
    #[error("reserved byte")]
    Reserved,
    /// A record does not start with the marker.
    #[error("marker of a record")]
    RecordMarker,
    /// CRC of a record's header.
    #[error("checksum of a record header")]
    RecordHeaderChecksum,
    /// A record that does not belong there.
    #[error("kind of a record")]
    RecordKind,
    /// A record's number within its kind, or its address.
    #[error("number or address of a record")]
    RecordNumber,
    /// A record's size is not one it can have.
    #[error("size of a record")]
    RecordSize,
    /// CRC of a record's payload as stored.
    #[error("checksum of a payload")]
    StoredChecksum,
    /// Digest of a record's content.
    #[error("digest of the content")]
    ContentDigest,
    /// The payload does not decode.
    #[error("compressed payload")]
    Codec,
    /// The payload decodes to another size.
    #[error("decoded size")]
    DecodedSize,
    /// A CHUNK record's header differs from what INDEX says of it.
    #[error("chunk header")]
    ChunkHeader,
    /// Digest over everything but the chunks.
    #[error("root digest")]
    Root,
    /// A field of the HEADER payload.
    #[error("field of the header")]
    HeaderField,
    /// The INFO payload is no JSON object.
    #[error("descriptive information")]
    Info,
    /// A partition that cannot be.
    #[error("partition")]
    Partition,
    /// Number of partitions.
    #[error("number of partitions")]
    PartitionCount,
    /// Sum of sizes.
    #[error("sum of used or stored bytes")]
    ByteCount,
    /// An INDEX entry contradicts the partition table or its neighbours.
    #[error("index entry")]
    IndexEntry,
    /// Number of chunks.
    #[error("number of chunks")]
    ChunkCount,
    /// The system could not read the range; `found` is the errno.
    #[error("unreadable range")]
    Unreadable,
}

/// One thing that is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What is wrong.
    pub what: What,
    /// Offset in the file of the structure, field or payload that is wrong.
    pub file_offset: u64,
    /// The addresses whose bytes are affected, where it is a chunk: from its first to past its last used
    /// byte.
    pub gaddr: Option<Range<u64>>,
    /// What should have been found: a checksum, digest, size, offset or the bytes as a little-endian number.
    pub expected: u128,
    /// What was found.
    pub found: u128,
}

impl Fault {
    pub(crate) fn new(
        what: What,
        file_offset: u64,
        expected: impl Into<u128>,
        found: impl Into<u128>,
    ) -> Self {
        Self { what, file_offset, gaddr: None, expected: expected.into(), found: found.into() }
    }

    pub(crate) fn at_gaddr(mut self, gaddr: Range<u64>) -> Self {
        self.gaddr = Some(gaddr);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { what, file_offset, gaddr, expected, found } = self;
        write!(f, "{what} at file offset {file_offset}: expected {expected:#x}, found {found:#x}")?;
        match gaddr {
            Some(gaddr) => write!(f, ", gaddr {:#x}..{:#x} affected", gaddr.start, gaddr.end),
            None => Ok(()),
        }
    }
}

/// Why a checkpoint could not be opened, verified or restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened.
    #[error("{path} could not be opened")]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is a directory, a pipe, a device: nothing that can be read at offsets.
    #[error("not a regular file")]
    NotAFile,
    /// The file does not start as a checkpoint does.
    #[error("not a checkpoint: it starts with {}, expected 894f4c434b0d0a1a", Hex(.found))]
    NotACheckpoint {
        /// Its first bytes, zeros where it is shorter.
        found: [u8; 8],
    },
    /// A format that this version does not read.
    #[error("format version {major}.{minor}: this build reads {}.x, use a newer one", crate::layout::MAJOR)]
    UnsupportedVersion {
        /// Major version of the file.
        major: u16,
        /// Minor version of the file.
        minor: u16,
    },
    /// The file uses features that this version does not have.
    #[error("the file needs features {incompat_bits:#x} that this build does not have, use a newer one")]
    UnknownFeature {
        /// The unknown bits of the incompatible features.
        incompat_bits: u64,
    },
    /// A style or digest kind that this version does not have.
    #[error("{what} {number} at file offset {file_offset} is unknown to this build, use a newer one")]
    UnsupportedStyle {
        /// `style`, `digest kind`, `record kind`, `record flags` or `origin`.
        what: &'static str,
        /// Its number.
        number: u64,
        /// Where it was found.
        file_offset: u64,
    },
    /// The file ends early: writing or copying it was interrupted.
    #[error(
        "truncated: the file ends at {file_bytes}, its last complete record at {complete_bytes}: copy or \
         write it again"
    )]
    Truncated {
        /// Size of the file.
        file_bytes: u64,
        /// Where its last complete record ends.
        complete_bytes: u64,
    },
    /// Something was appended to a complete checkpoint.
    #[error("the checkpoint ends at {end}, but the file at {file_bytes}: remove what was appended")]
    TrailingBytes {
        /// Where the footer ends.
        end: u64,
        /// Size of the file.
        file_bytes: u64,
    },
    /// A byte is wrong.
    #[error("corrupt: {0}")]
    Corrupt(Fault),
    /// The sink did not take a range.
    #[error("{size_bytes} bytes for gaddr {gaddr:#x} were refused by the sink")]
    Sink {
        /// Start of the range.
        gaddr: u64,
        /// Size of the range.
        size_bytes: u64,
        /// The sink's error.
        source: SinkError,
    },
    /// The [`Cancel`](crate::Cancel) flag was set.
    #[error("cancelled after {done_bytes} of {total_bytes} bytes")]
    Cancelled {
        /// Content bytes done.
        done_bytes: u64,
        /// Content bytes in all.
        total_bytes: u64,
    },
    /// The system refused.
    #[error("{step} failed at file offset {file_offset}")]
    Io {
        /// What was asked of it.
        step: &'static str,
        /// Where.
        file_offset: u64,
        /// The system's error.
        source: io::Error,
    },
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        ReadError::Corrupt(fault)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
