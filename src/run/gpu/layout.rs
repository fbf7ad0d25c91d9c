//! Where values lie in GPU memory: a buffer each, but for those of nodes that run as one, which lie end to end.
//!
//! Adam's nodes are many and small: one dispatch over all of them costs what one of theirs does.

use std::collections::{HashMap, HashSet};

use crate::dispatch::{Bind, Dispatch};
use crate::tape::{Node, Tape, Var};

/// Floats that a value's place in a shared buffer is a multiple of: WebGPU binds at multiples of 256 bytes.
const ALIGNMENT: usize = 64;

/// Elementwise nodes that run as one, at the place of the last.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    /// Their numbers, in order.
    pub nodes: Vec<usize>,
    /// The dispatch over all of them.
    pub dispatch: Dispatch,
    /// What it binds, and whether it only reads it: a value that all of them read, or the number of a shared buffer.
    pub bound: Vec<(Bound, bool)>,
}

/// What a group's dispatch binds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    One(Var),
    Shared(usize),
}

/// Which buffer holds a value, and from which of its floats on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub buffer: usize,
    pub first: usize,
}

#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The place of every value.
    pub places: Vec<Place>,
    /// The lengths of all buffers in floats.
    pub buffers: Vec<usize>,
    pub groups: Vec<Group>,
}

/// The value that `bind` is for `node`, unless it is scratch memory.
fn value(bind: Bind, node: &Node) -> Option<Var> {
    match bind {
        Bind::Read(i) => Some(node.reads[i]),
        Bind::Write(i) | Bind::Old(i) => Some(node.writes[i]),
        Bind::Scratch(_) | Bind::ScratchRead(_) => None,
    }
}

impl Layout {
    /// Plans the memory of one of `nets` nets of `tape`; no shared buffer exceeds `most` floats.
    pub fn new(tape: &Tape, nets: usize, most: usize) -> Self {
        let mut layout = Layout::default();
        let mut places = vec![None; tape.values().len()];
        // Several nets share the cost of a dispatch anyway, and a kernel finds each net's array behind the one before,
        // which those of several values end to end would not be.
        for nodes in if nets == 1 { candidates(tape) } else { Vec::new() } {
            layout.group(tape, nodes, most, &mut places);
        }
        let mut place = |(index, place): (usize, Option<Place>)| {
            place.unwrap_or_else(|| {
                // A value that fusion left out has no elements, and a buffer has at least one.
                let len = if tape.is_live(Var(index)) { tape.shape(Var(index)).len() } else { 1 };
                layout.buffers.push(len);
                Place { buffer: layout.buffers.len() - 1, first: 0 }
            })
        };
        layout.places = places.into_iter().enumerate().map(&mut place).collect();
        layout
    }

    /// Makes `nodes` a group and gives their values a place, if that is possible.
    fn group(&mut self, tape: &Tape, nodes: Vec<usize>, most: usize, places: &mut [Option<Place>]) {
        let like = tape.nodes()[nodes[0]].op.gpu().remove(0);
        let first = &tape.nodes()[nodes[0]];
        let binds = like.bindings(first.reads.len(), first.writes.len());
        let values = |&number: &usize| binds.iter().filter_map(|&bind| value(bind, &tape.nodes()[number])).collect();
        let bindings: Vec<Vec<Var>> = nodes.iter().map(values).collect();
        assert_eq!(bindings[0].len(), binds.len(), "elementwise kernels have no scratch memory");
        let lens: Vec<usize> = nodes.iter().map(|&n| tape.shape(tape.nodes()[n].writes[0]).len()).collect();
        let mut firsts = Vec::with_capacity(lens.len());
        let mut total = 0usize;
        for len in &lens {
            firsts.push(total);
            total += len.next_multiple_of(ALIGNMENT);
        }
        let column = |slot: usize| bindings.iter().map(move |vars| vars[slot]);
        let one =
            |slot: usize| tape.shape(bindings[0][slot]).len() == 1 && column(slot).all(|var| var == bindings[0][slot]);
        let shared: Vec<usize> = (0..bindings[0].len()).filter(|&slot| !one(slot)).collect();
        let fits = shared.iter().all(|&slot| {
            let new = |(var, len): (Var, &usize)| places[var.index()].is_none() && tape.shape(var).len() == *len;
            let vars: Vec<Var> = column(slot).collect();
            let apart = vars.iter().collect::<HashSet<_>>().len() == vars.len();
            apart && column(slot).zip(&lens).all(new) && !both_ways(tape, &vars, &nodes)
        });
        if !fits || total > most || shared.is_empty() {
            return;
        }
        let ones = bindings[0].iter().map(|&var| Bound::One(var));
        let mut bound: Vec<(Bound, bool)> = ones.zip(binds.iter().map(|bind| bind.is_read_only())).collect();
        for slot in shared {
            bound[slot].0 = Bound::Shared(self.buffers.len());
            for (var, &first) in column(slot).zip(&firsts) {
                places[var.index()] = Some(Place { buffer: self.buffers.len(), first });
            }
            self.buffers.push(total);
        }
        let constants =
            like.constants.iter().map(|&(name, value)| (name, if name == "len" { total as f64 } else { value }));
        let dispatch = Dispatch::linear(like.shader, like.entry, constants.collect(), total);
        self.groups.push(Group { nodes, dispatch, bound });
    }
}

/// True if a node other than `nodes` reads one of `vars` and writes another: lying in one buffer, they could not be
/// bound both ways.
fn both_ways(tape: &Tape, vars: &[Var], nodes: &[usize]) -> bool {
    let among = |list: &[Var]| list.iter().any(|var| vars.contains(var));
    let others = tape.nodes().iter().enumerate().filter(|(number, _)| !nodes.contains(number));
    others.into_iter().any(|(_, node)| among(&node.reads) && among(&node.writes))
}

/// Elementwise nodes, two or more at a time, that differ in length alone and may all wait for the last of them.
fn candidates(tape: &Tape) -> Vec<Vec<usize>> {
    type Key = (&'static str, &'static str, Vec<(&'static str, u64)>);
    let mut kinds: HashMap<Key, usize> = HashMap::new();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (number, node) in tape.nodes().iter().enumerate().filter(|(_, node)| node.op.elementwise()) {
        let dispatches = node.op.gpu();
        let [dispatch] = dispatches.as_slice() else { continue };
        let constants = dispatch.constants.iter().filter(|(name, _)| *name != "len");
        let constants = constants.map(|(name, value)| (*name, value.to_bits())).collect();
        let kind = *kinds.entry((dispatch.shader.file, dispatch.entry, constants)).or_insert_with(|| {
            found.push(Vec::new());
            found.len() - 1
        });
        found[kind].push(number);
    }
    found.retain(|nodes| nodes.len() > 1 && can_wait(tape, nodes));
    found
}

/// True if no node between the first and the last of `nodes` sees the difference when all of them run at the last's place.
fn can_wait(tape: &Tape, nodes: &[usize]) -> bool {
    let last = nodes[nodes.len() - 1];
    nodes.iter().all(|&number| {
        let early = &tape.nodes()[number];
        (number + 1..last).filter(|later| !nodes.contains(later)).all(|later| {
            let later = &tape.nodes()[later];
            let touches = |vars: &[Var]| vars.iter().any(|var| early.writes.contains(var));
            !touches(&later.reads)
                && !touches(&later.writes)
                && !later.writes.iter().any(|var| early.reads.contains(var))
        })
    }) && independent(tape, nodes)
}

/// True if none of `nodes` reads or writes what another of them writes.
fn independent(tape: &Tape, nodes: &[usize]) -> bool {
    nodes.iter().all(|&a| {
        let written = &tape.nodes()[a].writes;
        let others = nodes.iter().filter(|&&b| b != a).map(|&b| &tape.nodes()[b]);
        others.into_iter().all(|b| !b.reads.iter().chain(&b.writes).any(|var| written.contains(var)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::dispatch::Shader;
    use crate::error::Result;
    use crate::tape::{Gradient, Op, Step};
    use crate::tensor::Shape;

    const SHADER: Shader = Shader { file: "test.wgsl", source: "" };

    /// Updates by the two values it reads; the second has one element.
    #[derive(Debug)]
    struct Update {
        len: usize,
        rate: f64,
    }

    impl Op for Update {
        fn name(&self) -> &'static str {
            "update"
        }

        fn output_shapes(&self, _: &[&Shape]) -> Result<Vec<Shape>> {
            Ok(vec![[self.len].into()])
        }

        fn reference(&self, _: &[&[f64]], _: &mut [&mut [f64]], _: &Step) {}

        fn cpu(&self, _: &[&[f32]], _: &mut [&mut [f32]], _: &Step) {}

        fn gpu(&self) -> Vec<Dispatch> {
            let constants = vec![("len", self.len as f64), ("rate", self.rate)];
            vec![Dispatch::linear(SHADER, "update", constants, self.len)]
        }

        fn backward(&self, _: &mut Gradient) -> Result<()> {
            Ok(())
        }

        fn in_place(&self) -> bool {
            true
        }

        fn elementwise(&self) -> bool {
            true
        }
    }

    /// `n` parameters of lengths 10, 70, 10, ... and the gradient of each, updated at `rates`.
    fn tape(rates: &[f64]) -> (Tape, Vec<[Var; 2]>) {
        let mut tape = Tape::new();
        let scale = tape.input("scale", [1]);
        let mut vars = Vec::new();
        for number in 0..rates.len() {
            let len = if number % 2 == 0 { 10 } else { 70 };
            vars.push([tape.input("grad", [len]), tape.param(&format!("param{number}"), [len]).unwrap()]);
        }
        for (&rate, [grad, param]) in rates.iter().zip(&vars) {
            let len = tape.shape(*grad).len();
            tape.update(Update { len, rate }, &[*grad, scale], &[*param]).unwrap();
        }
        (tape, vars)
    }

    fn layout(tape: &Tape, most: usize) -> Layout {
        Layout::new(tape, 1, most)
    }

    #[test]
    fn nodes_of_one_kind_share_buffers_end_to_end() {
        let (tape, vars) = tape(&[1.0, 1.0, 2.0, 1.0]);
        let layout = layout(&tape, 1 << 20);
        let [group] = layout.groups.as_slice() else { panic!("one group: {layout:?}") };
        assert_eq!(group.nodes, [0, 1, 3]);
        assert_eq!(group.dispatch.constants, [("len", 320.0), ("rate", 1.0)]);
        let [(Bound::Shared(grads), true), (Bound::One(scale), true), (Bound::Shared(params), false)] = group.bound[..]
        else {
            panic!("{group:?}")
        };
        assert_eq!((scale, layout.buffers[grads], layout.buffers[params]), (Var(0), 320, 320));
        for (slot, buffer) in [(0, grads), (1, params)] {
            let firsts = [0, 1, 3].map(|number: usize| layout.places[vars[number][slot].index()]);
            assert_eq!(firsts, [0, 64, 192].map(|first| Place { buffer, first }));
        }
        // The node of another rate keeps its own buffers.
        let alone = layout.places[vars[2][1].index()];
        assert_eq!((alone.first, layout.buffers[alone.buffer]), (0, 10));
        // Several nets: every value by itself.
        assert!(Layout::new(&tape, 2, 1 << 20).groups.is_empty());
    }

    #[test]
    fn nothing_is_shared_that_may_not_be() {
        // Too large for one binding.
        let (large, _) = tape(&[1.0, 1.0]);
        assert!(layout(&large, 191).groups.is_empty() && layout(&large, 192).groups.len() == 1);
        // One node of its kind.
        assert!(layout(&tape(&[1.0]).0, 1 << 20).groups.is_empty());
        // Somebody reads the first parameter between the updates.
        let mut between = Tape::new();
        let scale = between.input("scale", [1]);
        let (a, b, c) =
            (between.param("a", [10]).unwrap(), between.param("b", [10]).unwrap(), between.state("c", [10]).unwrap());
        let grad = between.input("grad", [10]);
        let update = |rate| Update { len: 10, rate };
        between.update(update(1.0), &[grad, scale], &[a]).unwrap();
        between.update(update(2.0), &[a, scale], &[c]).unwrap();
        between.update(update(1.0), &[c, scale], &[b]).unwrap();
        assert!(layout(&between, 1 << 20).groups.is_empty());
        // Two parameters have the same gradient.
        let mut same = Tape::new();
        let (scale, grad) = (same.input("scale", [1]), same.input("grad", [10]));
        for name in ["a", "b"] {
            let param = same.param(name, [10]).unwrap();
            same.update(update(1.0), &[grad, scale], &[param]).unwrap();
        }
        assert!(layout(&same, 1 << 20).groups.is_empty());
        // Somebody reads one gradient to write another: in one buffer it could not be bound both ways.
        let mut both = Tape::new();
        let scale = both.input("scale", [1]);
        let grads = [both.state("a", [10]).unwrap(), both.state("b", [10]).unwrap()];
        both.update(update(3.0), &[grads[0], scale], &[grads[1]]).unwrap();
        for (name, grad) in ["p", "q"].into_iter().zip(grads) {
            let param = both.param(name, [10]).unwrap();
            both.update(update(1.0), &[grad, scale], &[param]).unwrap();
        }
        assert!(layout(&both, 1 << 20).groups.is_empty());
    }
}
