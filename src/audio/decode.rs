//! audio/decode: to come
