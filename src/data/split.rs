//! data/split: to come
