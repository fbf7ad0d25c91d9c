//! data/pickle: to come
