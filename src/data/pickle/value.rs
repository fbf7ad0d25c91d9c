//! The values that the pickle machine works on, and lists of them.

/// Bytes of a value.
pub(super) const VALUE: u64 = size_of::<Value>() as u64;

/// What the machine works on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Global(Global),
    /// Index into the heap.
    Ref(u32),
}

/// The globals that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    /// `numpy.core.multiarray._reconstruct(ndarray, (0,), b'b')`: an array to be filled by BUILD.
    Reconstruct,
    Ndarray,
    Dtype,
    /// `numpy.core.multiarray.scalar(dtype, bytes)`.
    Scalar,
    /// `numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`, protocol 5.
    FromBuffer,
    /// `_codecs.encode(text, 'latin1')`: bytes by Python 3 at protocol 2.
    Encode,
    /// `bytes()`: empty bytes by Python 3 at protocol 2.
    Bytes,
}

impl Global {
    pub fn of(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Global::Reconstruct,
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"scalar") => Global::Scalar,
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => Global::FromBuffer,
            (b"numpy", b"ndarray") => Global::Ndarray,
            (b"numpy", b"dtype") => Global::Dtype,
            (b"_codecs", b"encode") => Global::Encode,
            (b"__builtin__" | b"builtins", b"bytes") => Global::Bytes,
            _ => return None,
        })
    }
}

/// A list, a tuple or a 1-D array; numbers are packed.
#[derive(Debug)]
pub(super) enum Items {
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    /// Integers among them are floats here.
    Floats(Vec<f32>),
    Mixed(Vec<Value>),
}

impl Items {
    pub fn new(values: &[Value]) -> Self {
        let mut items = Items::Mixed(Vec::new());
        items.extend(values);
        items
    }

    /// Integers, in as few bytes as hold them.
    pub fn integers(values: Vec<i64>) -> Self {
        let short: Option<Vec<i32>> = values.iter().map(|&int| i32::try_from(int).ok()).collect();
        short.map_or(Items::Longs(values), Items::Ints)
    }

    pub fn len(&self) -> usize {
        match self {
            Items::Ints(v) => v.len(),
            Items::Longs(v) => v.len(),
            Items::Floats(v) => v.len(),
            Items::Mixed(v) => v.len(),
        }
    }

    pub fn get(&self, i: usize) -> Option<Value> {
        match self {
            Items::Ints(v) => v.get(i).map(|&int| Value::Int(int.into())),
            Items::Longs(v) => v.get(i).map(|&int| Value::Int(int)),
            Items::Floats(v) => v.get(i).map(|&x| Value::Float(x.into())),
            Items::Mixed(v) => v.get(i).copied(),
        }
    }

    /// Appends; what comes decides how all of it is packed.
    pub fn extend(&mut self, new: &[Value]) {
        if self.len() == 0 {
            *self = Items::Ints(Vec::new());
        }
        for &value in new {
            let fits = match (&mut *self, value) {
                (Items::Ints(v), Value::Int(int)) => i32::try_from(int).map(|int| v.push(int)).is_ok(),
                (Items::Longs(v), Value::Int(int)) => {
                    v.push(int);
                    true
                }
                (Items::Floats(v), Value::Int(int)) => {
                    v.push(int as f32);
                    true
                }
                (Items::Floats(v), Value::Float(x)) => {
                    v.push(x as f32);
                    true
                }
                (Items::Mixed(v), _) => {
                    v.push(value);
                    true
                }
                _ => false,
            };
            if !fits {
                self.widen(value);
            }
        }
    }

    /// Packs so that `value` fits, and appends it.
    pub fn widen(&mut self, value: Value) {
        let all = (0..self.len()).filter_map(|i| self.get(i));
        let number = |value| match value {
            Value::Int(int) => int as f32,
            Value::Float(x) => x as f32,
            _ => 0.0,
        };
        *self = match value {
            Value::Int(int) => {
                let longs = all.filter_map(|value| if let Value::Int(int) = value { Some(int) } else { None });
                Items::Longs(longs.chain([int]).collect())
            }
            Value::Float(_) => Items::Floats(all.map(number).chain([number(value)]).collect()),
            _ => Items::Mixed(all.chain([value]).collect()),
        };
    }

    /// As samples; `None` if something in it is no number.
    pub fn into_f32(self) -> Option<Vec<f32>> {
        match self {
            Items::Ints(v) => Some(v.into_iter().map(|int| int as f32).collect()),
            Items::Longs(v) => Some(v.into_iter().map(|int| int as f32).collect()),
            Items::Floats(v) => Some(v),
            Items::Mixed(v) => v.is_empty().then(Vec::new),
        }
    }

    /// Bytes that grow faster than the file that says so.
    pub fn loose(&self) -> u64 {
        if let Items::Mixed(values) = self { values.len() as u64 * VALUE } else { 0 }
    }
}
