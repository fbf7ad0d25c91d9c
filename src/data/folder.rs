//! data/folder: to come
