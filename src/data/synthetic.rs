//! data/synthetic: to come
