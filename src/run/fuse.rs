//! Fusion: one rewrite of the recorded list, before it is given to a device.
//!
//! Operations know their neighbours ([`crate::tape::Op::fuse`]); the engine here knows no operation. The textbook list
//! stays the truth: a fused program computes the same numbers up to rounding, with fewer passes over memory.

use crate::tape::{Neighbours, Tape};

/// The same program with neighbouring nodes done as one wherever an operation knows how.
pub fn fuse(tape: &Tape) -> Tape {
    let mut tape = tape.clone();
    // It ends: every rewrite removes more nodes than it adds.
    while let Some(fusion) =
        (0..tape.nodes().len()).find_map(|number| tape.nodes()[number].op.fuse(&Neighbours::new(&tape, number)))
    {
        tape.rewrite(fusion);
    }
    tape
}
