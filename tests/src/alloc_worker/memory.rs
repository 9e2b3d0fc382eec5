//! What `alloc-worker` holds while it is parked.
//!
//! # Invariants
//! - Every page was written before the value exists; every byte is [`PATTERN`].

use outlast_wksp::{AllocError, Block, Domain, Wksp};

use super::Refusal;
use super::arguments::Arguments;
use super::exit::Exit;

/// What every byte is.
pub const PATTERN: u8 = 0xa5;

/// The bytes, in a workspace or on the heap.
#[derive(Debug)]
pub enum Memory {
    /// A block of a workspace, which outlasts this process.
    Shared(Box<Wksp>, Block),
    /// On the heap.
    Heap(Vec<u8>),
}

impl Memory {
    /// Allocates and touches what is asked for.
    ///
    /// # Errors
    /// [`Refusal`] with [`Exit::Attach`], [`Exit::Memory`] or [`Exit::BadArgument`].
    pub fn make(arguments: &Arguments) -> Result<Self, Refusal> {
        match (&arguments.wksp, &arguments.dir) {
            (Some(name), Some(directory)) => {
                let domain = Domain::open(directory).map_err(|error| Refusal::new(Exit::Attach, error))?;
                let wksp = Wksp::attach(&domain, name).map_err(|error| Refusal::new(Exit::Attach, error))?;
                Self::shared(wksp, arguments)
            }
            _ => Self::heap(arguments.bytes),
        }
    }

    fn shared(wksp: Wksp, arguments: &Arguments) -> Result<Self, Refusal> {
        let block = wksp.alloc(arguments.bytes, arguments.align, arguments.tag.get());
        let block = block.map_err(|error| {
            let exit = match error {
                AllocError::NoSpace { .. } | AllocError::Table { .. } => Exit::Memory,
                AllocError::Access(_) => Exit::Attach,
                _ => Exit::BadArgument,
            };
            Refusal::new(exit, error)
        })?;
        let bytes = wksp.bytes(block.gaddr().get(), arguments.bytes);
        bytes
            .map_err(|error| Refusal::new(Exit::Attach, error))?
            .fill(0, arguments.bytes, PATTERN)
            .map_err(|error| Refusal::new(Exit::Attach, error))?;
        Ok(Self::Shared(Box::new(wksp), block))
    }

    fn heap(bytes: u64) -> Result<Self, Refusal> {
        let refusal = |text: String| Refusal::new(Exit::Memory, format!("{bytes} bytes on the heap: {text}"));
        let len = usize::try_from(bytes).map_err(|error| refusal(error.to_string()))?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(len).map_err(|error| refusal(error.to_string()))?;
        memory.resize(len, PATTERN);
        Ok(Self::Heap(std::hint::black_box(memory)))
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Shared(_, block) => block.size_bytes(),
            Self::Heap(memory) => memory.len() as u64,
        }
    }
}
