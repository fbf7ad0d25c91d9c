//! The pickle machine: a stack, a memo, and the opcodes that plain containers and numpy arrays need.
//!
//! Objects live in a [`Heap`] and refer to each other by index: what a hostile file nests or ties into a cycle is only
//! numbers here, nothing recurses. What objects take besides their numbers and bytes is bounded by [`BASE`] and the size
//! of the file, and bytes are stored as they arrive, never because a length announces them.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;

use super::numpy::{self, Dtype};
use super::value::{Global, Items, VALUE, Value};
use crate::error::{Error, Result};

/// Most bytes that objects, the stack, the marks and the memo take together, besides one for every [`SHARE`] bytes of the
/// file; the course's file needs about 20 million.
const BASE: u64 = 48 << 20;
const SHARE: u64 = 16;

/// About what they take, bytes each, with what an allocation takes besides.
const OBJECT: u64 = 64;
const DICT: u64 = 160;
const MEMO: u64 = 48;
const MARK: u64 = size_of::<usize>() as u64;

/// Bytes up to this length are copied from the memo; longer ones are moved out, so that samples are held once.
const SMALL: usize = 64;

/// What lives in the heap.
#[derive(Debug)]
pub(super) enum Object {
    /// `bytes`, `bytearray`, Python 2's `str`, or text in UTF-8.
    Bytes(Vec<u8>),
    Items(Items),
    /// A row of numbers of a type.
    Array(Items, Dtype),
    Dict(Vec<(Value, Value)>),
    Dtype(Dtype),
    /// An array without its numbers.
    Blank,
    /// Bytes that an array was made of.
    Spent,
    /// A segment that was moved out, as the one of this number.
    Taken(usize),
}

/// All objects of one pickle.
#[derive(Default)]
pub(super) struct Heap(Vec<Object>);

impl Heap {
    pub fn get(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Ref(index) => self.0.get(index as usize),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, value: Value) -> Option<&mut Object> {
        match value {
            Value::Ref(index) => self.0.get_mut(index as usize),
            _ => None,
        }
    }

    pub fn items(&self, value: Value) -> Option<&Items> {
        match self.get(value)? {
            Object::Items(items) | Object::Array(items, _) => Some(items),
            _ => None,
        }
    }

    fn bytes(&self, value: Value) -> Option<&[u8]> {
        match self.get(value)? {
            Object::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The members of a short tuple.
    fn tuple<const N: usize>(&self, value: Value) -> Option<[Value; N]> {
        let items = self.items(value).filter(|items| items.len() == N)?;
        let mut members = [Value::None; N];
        for (i, member) in members.iter_mut().enumerate() {
            *member = items.get(i)?;
        }
        Some(members)
    }

    fn dtype(&self, value: Value) -> Option<Dtype> {
        match self.get(value)? {
            Object::Dtype(dtype) => Some(*dtype),
            _ => None,
        }
    }
}

/// The file, with the position in it.
pub(super) struct Input<'a, R> {
    path: &'a Path,
    source: R,
    /// Bytes read.
    pub at: u64,
}

impl<'a, R: BufRead> Input<'a, R> {
    pub fn new(path: &'a Path, source: R) -> Self {
        Self { path, source, at: 0 }
    }

    pub fn bad(&self, message: impl Into<String>) -> Error {
        Error::data(self.path, message)
    }

    fn truncated(&self) -> Error {
        self.bad(format!("truncated at byte {}; get the file again", self.at))
    }

    pub fn at_end(&mut self) -> Result<bool> {
        let rest = self.source.fill_buf().map_err(|e| Error::io("cannot read", self.path)(e))?;
        Ok(rest.is_empty())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (mut out, mut filled) = ([0; N], 0);
        while filled < N {
            let rest = self.source.fill_buf().map_err(|e| Error::io("cannot read", self.path)(e))?;
            let n = rest.len().min(N - filled);
            if n == 0 {
                return Err(self.truncated());
            }
            out[filled..filled + n].copy_from_slice(&rest[..n]);
            self.source.consume(n);
            self.at += n as u64;
            filled += n;
        }
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `n` bytes; memory grows as they arrive.
    fn bytes(&mut self, n: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(n.min(1 << 18) as usize);
        let read = self.source.by_ref().take(n).read_to_end(&mut bytes);
        let read = read.map_err(|e| Error::io("cannot read", self.path)(e))? as u64;
        self.at += read;
        if read < n { Err(self.truncated()) } else { Ok(bytes) }
    }

    /// Up to a line feed, which is dropped.
    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        let read = self.source.read_until(b'\n', &mut line);
        self.at += read.map_err(|e| Error::io("cannot read", self.path)(e))? as u64;
        if line.pop() == Some(b'\n') { Ok(line) } else { Err(self.truncated()) }
    }
}

/// Runs one pickle, up to its STOP: its value, and the objects that it refers to.
pub(super) fn run<R: BufRead>(input: &mut Input<'_, R>) -> Result<(Value, Heap)> {
    let (stack, marks, memo) = (Vec::new(), Vec::new(), HashMap::new());
    let mut machine = Machine { input, stack, marks, memo, heap: Heap::default(), held: 0, at: 0 };
    loop {
        if let Some(value) = machine.step()? {
            return Ok((value, machine.heap));
        }
    }
}

struct Machine<'i, 'p, R> {
    input: &'i mut Input<'p, R>,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: Heap,
    /// Bytes that the heap's objects take, besides packed numbers and bytes.
    held: u64,
    /// Where the current opcode stands.
    at: u64,
}

impl<R: BufRead> Machine<'_, '_, R> {
    /// Runs one opcode; a value at STOP.
    fn step(&mut self) -> Result<Option<Value>> {
        self.at = self.input.at;
        let opcode = self.input.u8()?;
        match opcode {
            // around the program
            0x80 => match self.input.u8()? {
                0..=5 => {}
                version => return Err(self.bad(format!("is of pickle protocol {version}; 0 to 5 are read"))),
            },
            0x95 => drop(self.input.u64()?), // FRAME: a hint for buffering
            b'.' => return self.pop().map(Some),

            // the stack and the memo
            b'(' => {
                self.marks.push(self.stack.len());
                self.bounded()?;
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.push(self.top()?)?,
            b'p' => {
                let index = self.number()?;
                self.put(index)?;
            }
            b'q' => {
                let index = self.input.u8()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = self.input.u32()?;
                self.put(index)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,
            b'g' => {
                let index = self.number()?;
                self.get(index)?;
            }
            b'h' => {
                let index = self.input.u8()?;
                self.get(index.into())?;
            }
            b'j' => {
                let index = self.input.u32()?;
                self.get(index)?;
            }

            // constants and numbers
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => {
                let int = self.input.u8()?;
                self.push(Value::Int(int.into()))?;
            }
            b'M' => {
                let int = u16::from_le_bytes(self.input.array()?);
                self.push(Value::Int(int.into()))?;
            }
            b'J' => {
                let int = i32::from_le_bytes(self.input.array()?);
                self.push(Value::Int(int.into()))?;
            }
            b'I' => {
                let value = match self.input.line()?.as_slice() {
                    b"00" => Value::Bool(false),
                    b"01" => Value::Bool(true),
                    line => Value::Int(self.parse(line)?),
                };
                self.push(value)?;
            }
            b'L' => {
                let line = self.input.line()?;
                let int = self.parse(line.strip_suffix(b"L").unwrap_or(&line))?;
                self.push(Value::Int(int))?;
            }
            0x8a => {
                let n = self.input.u8()?;
                self.long(n.into())?;
            }
            0x8b => {
                let n = self.input.u32()?;
                self.long(n.into())?;
            }
            b'F' => {
                let line = self.input.line()?;
                let float = self.parse(&line)?;
                self.push(Value::Float(float))?;
            }
            b'G' => {
                let float = f64::from_be_bytes(self.input.array()?);
                self.push(Value::Float(float))?;
            }

            // bytes and text
            b'U' | b'C' | 0x8c => {
                let n = self.input.u8()?;
                self.blob(n.into())?;
            }
            b'T' | b'B' | b'X' => {
                let n = self.input.u32()?;
                self.blob(n.into())?;
            }
            0x8d | 0x8e | 0x96 => {
                let n = self.input.u64()?;
                self.blob(n)?;
            }
            b'S' | b'V' => {
                let line = self.input.line()?;
                let text = if opcode == b'S' { unquote(&line) } else { unescape(&line) };
                let text = text.ok_or_else(|| self.bad("has a string that is not well formed"))?;
                self.new_object(Object::Bytes(text))?;
            }

            // containers
            b')' | b']' => self.new_object(Object::Items(Items::new(&[])))?,
            b'}' => self.new_object(Object::Dict(Vec::new()))?,
            0x85..=0x87 => {
                let members = self.pop_some(usize::from(opcode - 0x84))?;
                self.new_object(Object::Items(Items::new(&members)))?;
            }
            b't' | b'l' => {
                let members = self.pop_mark()?;
                self.new_object(Object::Items(Items::new(&members)))?;
            }
            b'd' => {
                let members = self.pop_mark()?;
                self.new_object(Object::Dict(Vec::new()))?;
                self.set(&members)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let members = self.pop_mark()?;
                self.append(&members)?;
            }
            b's' => {
                let members = self.pop_some(2)?;
                self.set(&members)?;
            }
            b'u' => {
                let members = self.pop_mark()?;
                self.set(&members)?;
            }

            // objects
            b'c' | b'i' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let global = self.global(&module, &name)?;
                if opcode == b'i' {
                    return Err(self.unknown(opcode));
                }
                self.push(Value::Global(global))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.heap.bytes(module), self.heap.bytes(name)) else {
                    return Err(self.bad("asks for a global whose name is no text"));
                };
                let global = self.global(module, name)?;
                self.push(Value::Global(global))?;
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.reduce(callable, arguments)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(self.top()?, state)?;
            }
            _ => return Err(self.unknown(opcode)),
        }
        Ok(None)
    }

    fn bad(&self, message: impl std::fmt::Display) -> Error {
        self.input.bad(format!("{message} (at byte {})", self.at))
    }

    fn unknown(&self, opcode: u8) -> Error {
        self.bad(format!(
            "has the pickle opcode {opcode:#04x}, which is not read here; expected numpy arrays and plain containers"
        ))
    }

    /// Refuses a file whose objects take more than any corpus needs.
    fn bounded(&self) -> Result<()> {
        let taken = self.stack.len() as u64 * VALUE + self.marks.len() as u64 * MARK + self.memo.len() as u64 * MEMO;
        if self.held + taken <= BASE + self.input.at / SHARE {
            return Ok(());
        }
        Err(self.bad(format!("holds more objects than a corpus needs: {}", self.heap.0.len().max(self.stack.len()))))
    }

    fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held = self.held.saturating_add(bytes);
        self.bounded()
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.stack.push(value);
        self.bounded()
    }

    fn new_object(&mut self, object: Object) -> Result<()> {
        self.hold(match &object {
            Object::Dict(_) => DICT,
            Object::Items(items) => OBJECT + items.loose(),
            _ => OBJECT,
        })?;
        self.heap.0.push(object);
        self.push(Value::Ref(self.heap.0.len() as u32 - 1))
    }

    fn top(&self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| self.bad("takes from an empty stack"))
    }

    fn pop(&mut self) -> Result<Value> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_some(&mut self, n: usize) -> Result<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n).filter(|&from| from >= floor) {
            Some(from) => Ok(self.stack.split_off(from)),
            None => Err(self.bad("takes from an empty stack")),
        }
    }

    /// All that was pushed since the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let from = self.marks.pop().ok_or_else(|| self.bad("takes up to a mark that is not there"))?;
        Ok(self.stack.split_off(from))
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let value = self.top()?;
        self.memo.insert(index, value);
        self.bounded()
    }

    fn get(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).copied();
        let value = value.ok_or_else(|| self.bad(format!("refers to memo entry {index}, which is not there")))?;
        self.push(value)
    }

    fn number(&mut self) -> Result<u32> {
        let line = self.input.line()?;
        self.parse(&line)
    }

    fn parse<T: std::str::FromStr>(&self, line: &[u8]) -> Result<T> {
        let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.bad(format!("has {}, which is no number of a size read here", show(line))))
    }

    /// A two's-complement integer of `n` bytes.
    fn long(&mut self, n: u64) -> Result<()> {
        let bytes = self.input.bytes(n)?;
        let sign = bytes.last().map_or(0, |last| if last & 0x80 != 0 { 0xFF } else { 0 });
        if bytes.len() > 8 {
            return Err(self.bad("has an integer of more than 64 bits"));
        }
        let mut padded = [sign; 8];
        padded[..bytes.len()].copy_from_slice(&bytes);
        self.push(Value::Int(i64::from_le_bytes(padded)))
    }

    fn blob(&mut self, n: u64) -> Result<()> {
        let bytes = self.input.bytes(n)?;
        self.new_object(Object::Bytes(bytes))
    }

    fn append(&mut self, new: &[Value]) -> Result<()> {
        let grown = match self.heap.get_mut(self.top()?) {
            Some(Object::Items(items)) => {
                let before = items.loose();
                items.extend(new);
                items.loose() - before
            }
            _ => return Err(self.bad("appends to what is no list")),
        };
        self.hold(grown)
    }

    fn set(&mut self, new: &[Value]) -> Result<()> {
        let (pairs, rest) = new.as_chunks::<2>();
        match self.heap.get_mut(self.top()?) {
            Some(Object::Dict(entries)) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)))
            }
            _ => return Err(self.bad("sets keys in what is no dict, or keys without values")),
        }
        self.hold(new.len() as u64 * VALUE)
    }

    fn global(&self, module: &[u8], name: &[u8]) -> Result<Global> {
        Global::of(module, name).ok_or_else(|| {
            let asked = format!("asks for the global {}.{}", show(module), show(name));
            self.bad(format!("{asked}; only numpy arrays and plain containers are read, nothing was executed"))
        })
    }

    /// Moves long bytes out of the heap, copies short ones (Python shares those of one character).
    fn take_bytes(&mut self, value: Value) -> Result<Vec<u8>> {
        match self.heap.get_mut(value) {
            Some(Object::Bytes(bytes)) if bytes.len() <= SMALL => Ok(bytes.clone()),
            Some(object @ Object::Bytes(_)) => match std::mem::replace(object, Object::Spent) {
                Object::Bytes(bytes) => Ok(bytes),
                _ => Ok(Vec::new()),
            },
            Some(Object::Spent) => Err(self.bad("uses the bytes of an array a second time")),
            _ => Err(self.bad("has an array whose content is no bytes")),
        }
    }

    fn reduce(&mut self, callable: Value, arguments: Value) -> Result<()> {
        let Value::Global(global) = callable else {
            return Err(self.bad("calls what is no global"));
        };
        let heap = &self.heap;
        match global {
            Global::Reconstruct => match heap.tuple(arguments) {
                Some([Value::Global(Global::Ndarray), _, _]) => return self.new_object(Object::Blank),
                _ => return Err(self.bad("makes an array of a kind that is not read here")),
            },
            Global::Dtype => {
                let code = heap.items(arguments).and_then(|items| heap.bytes(items.get(0)?)).unwrap_or_default();
                let dtype = Dtype::parse(code);
                let dtype =
                    dtype.ok_or_else(|| self.bad(format!("has an array of dtype {}; {EXPECTED}", show(code))))?;
                return self.new_object(Object::Dtype(dtype));
            }
            Global::Scalar => {
                if let Some([dtype, bytes]) = heap.tuple(arguments)
                    && let (Some(dtype), Some(bytes)) = (heap.dtype(dtype), heap.bytes(bytes))
                    && dtype.size == bytes.len()
                    && let Some(value) = dtype.decode(bytes).get(0)
                {
                    return self.push(value);
                }
            }
            Global::FromBuffer => {
                if let Some([bytes, dtype, shape, order]) = heap.tuple(arguments) {
                    let fortran = heap.bytes(order) != Some(b"C");
                    self.new_object(Object::Blank)?;
                    return self.fill(self.top()?, shape, dtype, fortran, bytes);
                }
            }
            Global::Encode => {
                if let Some([text, encoding]) = heap.tuple(arguments)
                    && matches!(heap.bytes(encoding), Some(b"latin1" | b"latin-1" | b"iso-8859-1"))
                {
                    let mut bytes = self.take_bytes(text)?;
                    if numpy::latin1(&mut bytes) {
                        return self.new_object(Object::Bytes(bytes));
                    }
                }
            }
            Global::Bytes => {
                if heap.items(arguments).is_some_and(|items| items.len() == 0) {
                    return self.new_object(Object::Bytes(Vec::new()));
                }
            }
            Global::Ndarray => {}
        }
        Err(self.bad(format!("calls {global:?} with arguments that make no sense")))
    }

    fn build(&mut self, target: Value, state: Value) -> Result<()> {
        match self.heap.get(target) {
            Some(Object::Dtype(_)) => {
                // (version, byte order, ...)
                let order = self.heap.items(state).and_then(|items| self.heap.bytes(items.get(1)?));
                let big = match order {
                    Some(b">") => true,
                    Some(b"<" | b"|" | b"=") => false,
                    _ => return Err(self.bad("has a dtype without a byte order")),
                };
                if let Some(Object::Dtype(dtype)) = self.heap.get_mut(target) {
                    dtype.big_endian = big;
                }
                Ok(())
            }
            Some(Object::Blank) => match self.heap.tuple(state) {
                Some([_, shape, dtype, fortran, bytes]) => {
                    let fortran = matches!(fortran, Value::Bool(true) | Value::Int(1..));
                    self.fill(target, shape, dtype, fortran, bytes)
                }
                None => Err(self.bad("has an array without shape, dtype and content")),
            },
            _ => Err(self.bad("gives a state to what has none")),
        }
    }

    /// Puts numbers into a blank array; one of two axes becomes a list of rows.
    fn fill(&mut self, target: Value, shape: Value, dtype: Value, fortran: bool, bytes: Value) -> Result<()> {
        let dtype = self.heap.dtype(dtype).ok_or_else(|| self.bad("has an array without a dtype"))?;
        let axis = |i| match self.heap.items(shape)?.get(i)? {
            Value::Int(int) => usize::try_from(int).ok(),
            _ => None,
        };
        let axes = self.heap.items(shape).map_or(0, Items::len);
        let (rows, columns) = match (axes, axis(0), axis(1)) {
            (1, Some(n), _) => (None, n),
            (2, Some(rows), Some(columns @ 1..)) if !fortran => (Some(rows), columns),
            _ => return Err(self.bad("has an array that is neither one row of numbers nor a table in C order")),
        };
        let claimed = rows.unwrap_or(1).checked_mul(columns).and_then(|n| n.checked_mul(dtype.size));
        let bytes = self.take_bytes(bytes)?;
        if claimed != Some(bytes.len()) {
            let shape = rows.map_or(format!("{columns}"), |rows| format!("{rows} x {columns}"));
            return Err(self.bad(format!(
                "has an array of {shape} numbers of {} bytes in {} bytes",
                dtype.size,
                bytes.len()
            )));
        }
        let object = match rows {
            None => Object::Array(dtype.decode(&bytes), dtype),
            Some(rows) => {
                self.hold((rows as u64).saturating_mul(OBJECT + VALUE))?;
                let first = self.heap.0.len() as u32;
                let width = columns * dtype.size;
                let row = |i: usize| Object::Array(dtype.decode(&bytes[i * width..(i + 1) * width]), dtype);
                self.heap.0.extend((0..rows).map(row));
                Object::Items(Items::Mixed((0..rows as u32).map(|i| Value::Ref(first + i)).collect()))
            }
        };
        if let Some(blank) = self.heap.get_mut(target) {
            *blank = object;
        }
        Ok(())
    }
}

const EXPECTED: &str = "integers of 1 to 8 bytes and floats of 4 or 8 are read";

/// Text from the file, fit for one line of an error.
fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    text.chars().flat_map(char::escape_debug).collect()
}

/// Protocol 0's `'a\x00'`: Python 2's `repr` of a `str`.
fn unquote(line: &[u8]) -> Option<Vec<u8>> {
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return None,
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => hex(&mut rest, 2)? as u8,
                quoted @ (b'\\' | b'\'' | b'"') => *quoted,
                _ => return None,
            },
            _ => byte,
        });
    }
    Some(out)
}

/// Protocol 0's text: Latin-1 with `\uXXXX` and `\UXXXXXXXX`; here in UTF-8.
fn unescape(line: &[u8]) -> Option<Vec<u8>> {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.iter();
    while let Some(&byte) = rest.next() {
        out.push(match (byte, rest.as_slice().first()) {
            (b'\\', Some(&kind @ (b'u' | b'U'))) => {
                rest.next();
                char::from_u32(hex(&mut rest, if kind == b'u' { 4 } else { 8 })?)?
            }
            _ => char::from(byte),
        });
    }
    Some(out.into_bytes())
}

/// A number of so many hexadecimal digits.
fn hex(digits: &mut std::slice::Iter<'_, u8>, count: usize) -> Option<u32> {
    (0..count).try_fold(0, |number, _| Some(number << 4 | char::from(*digits.next()?).to_digit(16)?))
}
