//! data/prepared: to come
