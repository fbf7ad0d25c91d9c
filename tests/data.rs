//! Corpora from folders, pickles and prepared files: what is read, what is refused, how it is split and cached.

// fixtures stand outside of the test functions
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use genregrad::audio::{self, FrontEnd, SEGMENT_SAMPLES};
use genregrad::data::cache::Cache;
use genregrad::data::load::{self, Source, load_with};
use genregrad::data::segments::{self, Settings};
use genregrad::data::sound::Sound;
use genregrad::data::split::{Kind, Split, split};
use genregrad::data::{Content, Corpus, Dataset, Meta, Set, folder, pickle, prepared};
use genregrad::rng;
use proptest::prelude::*;
use rand::RngExt;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

const SETTINGS: fn() -> Settings = || Settings { segments: 3, seed: 5, ..Settings::default() };

fn quiet(_: usize, _: usize) {}

/// Writes `samples` as a mono 16-bit WAV file at 22,050 Hz.
fn write_wav(path: &Path, samples: impl IntoIterator<Item = f32>) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    samples.into_iter().for_each(|sample| file.write_sample((sample * 32_767.0) as i16).unwrap());
    file.finalize().unwrap();
}

/// A noise of the file's own.
fn write_track(path: &Path) {
    let mut rng = rng::stream(0, path.file_name().unwrap().to_str().unwrap());
    write_wav(path, (0..30_000).map(|_| rng.random_range(-0.5..0.5)));
}

/// A folder of genres: for each class, that many good tracks.
fn genres(root: &Path, classes: &[(&str, usize)]) {
    for (class, tracks) in classes {
        (0..*tracks).for_each(|i| write_track(&root.join(class).join(format!("{class}.{i:05}.wav"))));
    }
}

fn fresh() -> TempDir {
    tempfile::Builder::new().prefix("genregrad").tempdir().unwrap()
}

fn whole(corpus: &Corpus) -> &Set {
    match &corpus.content {
        Content::Whole(set) => set,
        Content::Split { .. } => panic!("already split"),
    }
}

/// The one line that a user would see.
fn line<T>(result: genregrad::error::Result<T>) -> String {
    let line = result.err().expect("an error").one_line();
    assert!(!line.contains('\n'), "{line}");
    line
}

fn load_uncached(path: &Path) -> genregrad::error::Result<Corpus> {
    load_with(&Cache::none(), &Source::Path(path.to_owned()), &SETTINGS(), &quiet)
}

// ---- folders ----

#[test]
fn a_folder_is_read_in_alphabetical_order_and_foreign_files_are_ignored() {
    let root = fresh();
    genres(root.path(), &[("rock", 2), ("blues", 3)]);
    write_track(&root.path().join("blues/UPPER.WAV"));
    for foreign in ["blues/.DS_Store", "blues/._blues.00000.wav", "blues/cover.png", "readme.txt", ".hidden/x.wav"] {
        let path = root.path().join(foreign);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "nothing").unwrap();
    }
    fs::create_dir(root.path().join("images")).unwrap();
    fs::create_dir(root.path().join("blues/deeper.wav")).unwrap();

    let listing = folder::scan(root.path()).unwrap();
    assert_eq!(listing.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["blues", "rock"]);
    assert_eq!(
        listing.classes[0].files,
        ["UPPER.WAV", "blues.00000.wav", "blues.00001.wav", "blues.00002.wav"].map(|f| Path::new("blues").join(f))
    );
    assert_eq!(listing.ignored, [(PathBuf::from("images"), "a sub-folder without audio".to_owned())]);

    let calls = AtomicUsize::new(0);
    let progress = |done: usize, total: usize| {
        assert!(done <= total && total == 6);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let corpus = folder::corpus(&listing, &SETTINGS(), &progress).unwrap();
    assert_eq!(calls.into_inner(), 6);
    assert_eq!(corpus.meta.classes, ["blues", "rock"]);
    assert_eq!((corpus.meta.bins, corpus.meta.frames, corpus.meta.synthetic), (80, 80, false));
    assert_eq!(corpus.meta.name, root.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(corpus.skipped, listing.ignored);
    let set = whole(&corpus);
    assert_eq!(set.labels, [[0; 12].as_slice(), &[1; 6]].concat());
    assert_eq!(set.tracks, (0..6).flat_map(|track| [track; 3]).collect::<Vec<u32>>());
    assert_eq!(set.track_names[..2], ["blues/UPPER", "blues.00000"]);
    assert_eq!(set.spectrograms.len(), 18 * 80 * 80);
    assert!(set.spectrograms.iter().all(|value| value.is_finite()));
}

/// The lines on tracks that were left out.
fn left_out(corpus: &Corpus) -> Vec<String> {
    corpus.skipped.iter().map(|(path, reason)| format!("{}: {reason}", path.display())).collect()
}

#[test]
fn tracks_lie_at_any_depth_and_their_names_are_their_paths() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("jazz", 2)]);
    for (path, noise) in [
        ("blues/artist/album/deep.wav", "1"),
        ("jazz/one/same.wav", "2"),
        ("jazz/two/same.wav", "3"),
        ("jazz/one/jazz.00000.wav", "4"),
        ("jazz/one/.hidden/x.wav", "5"),
    ] {
        write_track(&root.path().join(noise));
        fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
        fs::rename(root.path().join(noise), root.path().join(path)).unwrap();
    }
    let corpus = load_uncached(root.path()).unwrap();
    assert_eq!(corpus.skipped, []);
    let names = &whole(&corpus).track_names;
    let expected = [
        "blues/artist/album/deep",
        "blues.00000",
        "blues.00001",
        "jazz.00000",
        "jazz.00001",
        "jazz/one/jazz.00000",
        "jazz/one/same",
        "jazz/two/same",
    ];
    assert_eq!(names[..], expected);
    // each is heard under its own name
    let source = Source::Path(root.path().to_owned());
    assert_eq!(is_heard(&source, &SETTINGS(), whole(&corpus)), 8 * 3);
    let sound = Sound::open(&source, &SETTINGS()).unwrap();
    let first = |name: &str| sound.segments(name).unwrap()[0].spectrogram.clone();
    assert_ne!(first("jazz/one/same"), first("jazz/two/same"));
    assert_ne!(first("jazz.00000"), first("jazz/one/jazz.00000"));
}

#[test]
fn equal_names_in_two_genres_stay_apart() {
    let root = fresh();
    for (class, level) in [("a", 0.25), ("a.b", 0.5)] {
        for track in 0..2 {
            let samples = (0..30_000).map(|i| level * ((i as f32 + track as f32) / 9.0).sin());
            write_wav(&root.path().join(class).join(format!("a.b.{track}.wav")), samples);
        }
    }
    let corpus = load_uncached(root.path()).unwrap();
    assert_eq!(whole(&corpus).track_names, ["a/a.b.0", "a/a.b.1", "a.b/a.b.0", "a.b/a.b.1"]);
    let source = Source::Path(root.path().to_owned());
    assert_eq!(is_heard(&source, &SETTINGS(), whole(&corpus)), 4 * 3);
    let sound = Sound::open(&source, &SETTINGS()).unwrap();
    for (name, level) in [("a/a.b.1", 0.25f32), ("a.b/a.b.1", 0.5)] {
        let samples = sound.segments(name).unwrap()[0].samples.clone().unwrap();
        let peak = samples.iter().fold(0f32, |a, x| a.max(x.abs()));
        assert!((peak - level).abs() < 0.001, "{name}: {peak}");
    }
}

#[test]
fn content_decides_and_what_may_be_sound_is_named() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    let at = |name: &str| root.path().join("blues").join(name);
    for (name, noise) in
        [("plain", "1.wav"), ("mr. x", "2.wav"), ("mr. y", "3.wav"), ("song.dat", "4.wav"), ("w.wave", "5.wav")]
    {
        write_track(&root.path().join(noise));
        fs::rename(root.path().join(noise), at(name)).unwrap();
    }
    let opus = [b"OggS".as_slice(), &[0; 24], b"OpusHead"].concat();
    for (name, bytes) in [
        ("a.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0".as_slice()),
        ("b", b"caff\0\x01\0\0"),
        ("c.opus", &opus),
        ("d.wma", b"not what it says"),
        ("e.bin", b"\x01\x02\x03\x04"),
        ("f.aac", b"\xff\xf1\x50\x80"),
        ("g.mka", b"\x1a\x45\xdf\xa3"),
        // nobody means these as sound
        ("cover", b"\x89PNG\r\n\x1a\n"),
        ("notes", "Größe\n".as_bytes()),
        ("list.m3u", b"a.wav"),
        ("features.pkl", b"\x80\x02"),
        ("empty", b""),
        (".hidden.wav", b"RIFF"),
    ] {
        fs::write(at(name), bytes).unwrap();
    }
    write_track(&root.path().join("stray.wav"));
    let corpus = load_uncached(root.path()).unwrap();
    let names = &whole(&corpus).track_names;
    for name in ["plain", "mr. x", "mr. y", "song.dat", "w"] {
        assert!(names.contains(&format!("blues/{name}")), "{name}: {names:?}");
    }
    let expected = [
        "blues/a.m4a: an MPEG-4 file (AAC or ALAC), which is not supported: convert it to flac or wav",
        "blues/b: a Core Audio file, which is not supported: convert it to flac or wav",
        "blues/c.opus: an Ogg file of Opus, which is not supported: convert it to flac or wav",
        "blues/d.wma: not an audio file that can be read (wav, aiff, au, flac, mp3, ogg)",
        "blues/e.bin: not an audio file that can be read (wav, aiff, au, flac, mp3, ogg)",
        "blues/f.aac: an AAC file (ADTS), which is not supported: convert it to flac or wav",
        "blues/g.mka: a Matroska or WebM file, which is not supported: convert it to flac or wav",
        "stray.wav: beside the genres' folders, not in one",
    ];
    assert_eq!(left_out(&corpus), expected);

    // a genre of nothing else is missing, and that is said
    fs::create_dir(root.path().join("pop")).unwrap();
    fs::copy(at("a.m4a"), root.path().join("pop/a.m4a")).unwrap();
    let corpus = load_uncached(root.path()).unwrap();
    assert!(left_out(&corpus).contains(&"pop: a sub-folder without audio".to_owned()));
    fs::remove_dir_all(root.path().join("rock")).unwrap();
    fs::remove_file(at("a.m4a")).unwrap();
    let message = line(load_uncached(root.path()));
    assert!(
        message.contains("only one genre with audio, blues") && message.contains("(blues/b: a Core Audio"),
        "{message}"
    );
}

#[cfg(unix)]
#[test]
fn links_and_names_that_cannot_be_used_are_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let (root, elsewhere) = (fresh(), fresh());
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    genres(elsewhere.path(), &[("jazz", 2)]);
    let at = |name: &str| root.path().join(name);
    symlink("nowhere.wav", at("blues/dangling.wav")).unwrap();
    symlink("nowhere.png", at("blues/dangling.png")).unwrap();
    symlink("circle.wav", at("blues/circle.wav")).unwrap();
    symlink("..", at("rock/above")).unwrap();
    symlink("nowhere", at("soul")).unwrap();
    // these lead somewhere
    symlink(elsewhere.path().join("jazz"), at("jazz")).unwrap();
    symlink(elsewhere.path().join("jazz"), at("blues/album")).unwrap();
    let latin = |name: &[u8]| root.path().join(OsStr::from_bytes(name));
    fs::copy(at("blues/blues.00000.wav"), latin(b"blues/latin\xe9.wav")).unwrap();
    fs::create_dir(latin(b"gen\xe9")).unwrap();

    let corpus = load_uncached(root.path()).unwrap();
    let names = whole(&corpus).track_names.join(" ");
    assert_eq!(
        names,
        "blues/album/jazz.00000 blues/album/jazz.00001 blues.00000 blues.00001 jazz.00000 jazz.00001 rock.00000 rock.00001"
    );
    // in the order of the listing: what lies beside the genres comes with them
    let lines = left_out(&corpus);
    for (path, reason) in [
        ("blues/dangling.wav", "a link that leads nowhere"),
        ("blues/circle.wav", "a link that leads nowhere: "),
        ("blues/latin\u{fffd}.wav", "its name is not UTF-8: rename the file"),
        ("gen\u{fffd}", "its name is not UTF-8: rename the folder"),
        ("rock/above", "a link to a folder that it lies in"),
        ("soul", "a link that leads nowhere"),
    ] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{path}: {reason}"))), "{path}: {lines:?}");
    }
    assert_eq!(lines.len(), 6, "{lines:?}");
    // one sound in two genres
    let twice = ["blues/album/jazz.00000.wav, jazz/jazz.00000.wav", "blues/album/jazz.00001.wav, jazz/jazz.00001.wav"];
    assert_eq!(corpus.notes, twice.map(|paths| format!("the same sound, and all are used: {paths}")));
}

#[test]
fn more_genres_than_a_prepared_file_can_have_are_refused() {
    let root = fresh();
    for class in 0..1_001 {
        write_wav(&root.path().join(format!("c{class}/a.wav")), [0.0]);
    }
    let message = line(folder::scan(root.path()));
    assert!(message.contains("1001 genres, but at most 1000 are accepted"), "{message}");
    fs::remove_dir_all(root.path().join("c7")).unwrap();
    assert_eq!(folder::scan(root.path()).unwrap().classes.len(), 1_000);
}

#[test]
fn the_usual_nestings_are_found() {
    for nesting in ["genres", "genres_original", "Data/genres_original"] {
        let root = fresh();
        genres(&root.path().join(nesting), &[("blues", 1), ("rock", 1)]);
        fs::create_dir_all(root.path().join("Data/images_original/blues")).unwrap();
        let listing = folder::scan(root.path()).unwrap();
        assert_eq!(listing.root, root.path().join(nesting));
        assert_eq!(listing.classes.len(), 2);
        // a second collection beside it does not make genres of the two
        genres(&root.path().join("older"), &[("blues", 1), ("rock", 1)]);
        assert_eq!(folder::scan(root.path()).unwrap().root, root.path().join(nesting));
    }
}

#[test]
fn a_second_copy_of_a_track_is_left_out() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    fs::write(root.path().join("blues/blues.00000.au"), "the same in another form").unwrap();
    let listing = folder::scan(root.path()).unwrap();
    assert_eq!(listing.classes[0].files.len(), 2);
    let expected = (PathBuf::from("blues/blues.00000.wav"), "a second copy of blues.00000.au".to_owned());
    assert_eq!(listing.ignored, [expected]);
    // but where the first copy is bad, the second is the track
    let corpus = folder::corpus(&listing, &SETTINGS(), &quiet).unwrap();
    let names = &whole(&corpus).track_names;
    assert_eq!(names.iter().filter(|name| *name == "blues.00000").count(), 1, "{names:?}");
    let [(path, reason)] = &corpus.skipped[..] else { panic!("{:?}", corpus.skipped) };
    assert_eq!(path, Path::new("blues/blues.00000.au"));
    assert!(reason.ends_with("; blues/blues.00000.wav is used instead"), "{reason}");
    // and with it mended, the first again, with the same segments
    fs::copy(root.path().join("blues/blues.00000.wav"), root.path().join("blues/blues.00000.au")).unwrap();
    let mended = folder::corpus(&listing, &SETTINGS(), &quiet).unwrap();
    assert_eq!(mended.skipped, listing.ignored);
    assert_eq!(whole(&mended), whole(&corpus));
}

#[test]
fn folders_that_are_no_corpus_are_refused_with_a_remedy() {
    let root = fresh();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir_all(at("text/blues")).unwrap();
    fs::write(at("text/blues/notes.txt"), "no audio").unwrap();
    genres(&at("single"), &[("blues", 2)]);
    fs::create_dir(at("single/rock")).unwrap();
    fs::write(at("file"), "plain text").unwrap();

    for (name, expected) in [
        ("missing", "no such"),
        ("empty", "an empty folder"),
        ("text", "no sub-folder holds audio"),
        ("single", "only one genre with audio, blues"),
        ("single/blues", "holds audio itself, but no sub-folder does; give the folder above"),
        ("file", "not a known kind of data; give a folder"),
    ] {
        let message = line(load_uncached(&at(name)));
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
    let message = line(folder::scan(&at("file")));
    assert!(message.contains("a file, but a folder"), "{message}");
}

#[cfg(unix)]
#[test]
fn an_unreadable_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    let closed = root.path().join("rock");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // the superuser may read everything
    if fs::read_dir(&closed).is_err() {
        let message = line(folder::scan(root.path()));
        assert!(message.contains("rock: cannot read this folder"), "{message}");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn bad_tracks_among_good_ones_are_skipped_and_named() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("rock", 3)]);
    let clean = load_uncached(root.path()).unwrap();

    let at = |name: &str| root.path().join("blues").join(name);
    fs::write(at("a-text.wav"), "this is no audio at all, whatever its name says").unwrap();
    fs::write(at("b-empty.wav"), "").unwrap();
    write_wav(&at("c-short.wav"), vec![0.5; SEGMENT_SAMPLES - 1]);
    write_wav(&at("d-silent.wav"), vec![0.0; 30_000]);
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 22_050,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut file = hound::WavWriter::create(at("e-nan.wav"), spec).unwrap();
    (0..30_000).for_each(|i| file.write_sample(if i == 100 { f32::NAN } else { 0.1 }).unwrap());
    file.finalize().unwrap();
    let mut file = hound::WavWriter::create(at("f-loud.wav"), spec).unwrap();
    (0..30_000).for_each(|i| file.write_sample(1e38 * (i as f32 / 9.0).sin()).unwrap());
    file.finalize().unwrap();

    let corpus = load_uncached(root.path()).unwrap();
    let skipped: Vec<_> = corpus.skipped.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    let expected =
        ["a-text", "b-empty", "c-short", "d-silent", "e-nan", "f-loud"].map(|name| format!("blues/{name}.wav"));
    assert_eq!(skipped, expected);
    assert!(corpus.skipped.iter().all(|(_, reason)| !reason.is_empty() && !reason.contains("/blues/")));
    assert!(corpus.skipped[2].1.contains("too short: 20461 samples"), "{:?}", corpus.skipped[2]);
    assert!(corpus.skipped[3].1.contains("silent"), "{:?}", corpus.skipped[3]);
    assert!(corpus.skipped[5].1.contains("too loud"), "{:?}", corpus.skipped[5]);
    assert_eq!(whole(&corpus), whole(&clean), "the good tracks are as if the bad ones were not there");
}

#[test]
fn a_class_without_two_good_tracks_is_named() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("rock", 1)]);
    fs::write(root.path().join("rock/bad.wav"), "text").unwrap();
    let message = line(load_uncached(root.path()));
    assert!(message.contains("class rock has 1 usable of 2 tracks") && message.contains("rock/bad.wav: "), "{message}");
}

#[test]
fn settings_without_sense_are_refused() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    for segments in [0, usize::MAX] {
        let settings = Settings { segments, ..SETTINGS() };
        let source = Source::Path(root.path().to_owned());
        line(load_with(&Cache::none(), &source, &settings, &quiet));
    }
    for tracks_per_genre in [0, 1, usize::MAX] {
        let source = Source::Synthetic { tracks_per_genre };
        let message = line(load_with(&Cache::none(), &source, &SETTINGS(), &quiet));
        assert!(message.contains("at least 2, at most 99999"), "{message}");
    }
}

#[test]
fn neither_threads_nor_neighbours_change_a_track() {
    let root = fresh();
    genres(root.path(), &[("blues", 3), ("rock", 3)]);
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| load_uncached(root.path())).unwrap()
    };
    let one = with_threads(1);
    assert_eq!(one, with_threads(3));

    genres(root.path(), &[("a-new-class", 2)]);
    write_track(&root.path().join("blues/a-new-track.wav"));
    let more = load_uncached(root.path()).unwrap();
    let rows = |corpus: &Corpus, name: &str| {
        let set = whole(corpus);
        let track = set.track_names.iter().position(|n| n == name).unwrap() as u32;
        let rows = set.tracks.iter().zip(set.spectrograms.chunks(80 * 80)).filter(|(t, _)| **t == track);
        rows.flat_map(|(_, row)| row.to_vec()).collect::<Vec<_>>()
    };
    for name in ["blues.00000", "blues.00002", "rock.00001"] {
        assert_eq!(rows(&one, name).len(), 3 * 80 * 80);
        assert_eq!(rows(&one, name), rows(&more, name));
    }

    let source = Source::Path(root.path().to_owned());
    let other_seed = Settings { seed: 6, ..SETTINGS() };
    assert_ne!(more, load_with(&Cache::none(), &source, &other_seed, &quiet).unwrap());
}

#[test]
fn the_built_in_corpus_is_labelled_synthetic() {
    let source = Source::Synthetic { tracks_per_genre: 2 };
    let settings = Settings { segments: 1, ..SETTINGS() };
    let corpus = load_with(&Cache::none(), &source, &settings, &quiet).unwrap();
    assert!(corpus.meta.synthetic);
    assert_eq!(corpus.meta.name, "synthetic corpus");
    assert_eq!(corpus.skipped, []);
    let set = whole(&corpus);
    assert_eq!(set.labels, (0..10).flat_map(|label| [label; 2]).collect::<Vec<u32>>());
    let distinct: std::collections::HashSet<&str> = set.track_names.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), 20);
    let mut rows: Vec<Vec<u32>> =
        set.spectrograms.chunks(80 * 80).map(|r| r.iter().map(|v| v.to_bits()).collect()).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), 20, "all tracks differ");
}

// ---- splits ----

/// A corpus of `sizes[c]` tracks of class c with `segments` rows each; a row's one number is its index.
fn numbered(sizes: &[usize], segments: usize) -> Corpus {
    let classes: Vec<String> = (0..sizes.len()).map(|class| format!("c{class}")).collect();
    let mut set = Set::default();
    for (label, &size) in sizes.iter().enumerate() {
        for track in 0..size {
            let number = set.track_names.len() as u32;
            for _ in 0..segments {
                set.spectrograms.push(set.labels.len() as f32);
                set.labels.push(label as u32);
                set.tracks.push(number);
            }
            set.track_names.push(format!("c{label}.{track:05}"));
        }
    }
    let front_end = FrontEnd::default().with_bins(1);
    let meta = Meta { name: "numbered".into(), synthetic: false, classes, front_end, bins: 1, frames: 1 };
    Corpus { meta, content: Content::Whole(set), skipped: Vec::new(), notes: Vec::new() }
}

/// Tracks a class in a set.
fn class_sizes(set: &Set, classes: usize) -> Vec<usize> {
    let mut sizes = vec![0; classes];
    for name in &set.track_names {
        sizes[name[1..].split('.').next().unwrap().parse::<usize>().unwrap()] += 1;
    }
    sizes
}

/// Every row of `set` is the row of that name in the undivided corpus, in the same order.
fn rows_are_intact(set: &Set, corpus: &Corpus) {
    let all = whole(corpus);
    assert_eq!(set.spectrograms.len(), set.len());
    assert!(set.spectrograms.is_sorted());
    for (row, &value) in set.spectrograms.iter().enumerate() {
        let origin = value as usize;
        assert_eq!(set.labels[row], all.labels[origin]);
        assert_eq!(set.track_names[set.tracks[row] as usize], all.track_names[all.tracks[origin] as usize]);
    }
    assert!(set.tracks.windows(2).all(|pair| pair[0] <= pair[1]));
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Random, Kind::Blocks])
}

/// Each class's tracks are one run, the last followed by the first.
fn is_in_runs(set: &Set, sizes: &[usize]) -> bool {
    sizes.iter().enumerate().all(|(class, &n)| {
        let has = |track: usize| set.track_names.contains(&format!("c{class}.{:05}", track % n));
        (0..n).filter(|&track| has(track) && !has(track + 1)).count() <= 1
    })
}

proptest! {
    #[test]
    fn a_holdout_is_stratified_by_track(
        sizes in prop::collection::vec(2usize..30, 2..6),
        segments in 1usize..4,
        test_fraction in 0.01f64..0.99,
        kind in kinds(),
        seed in any::<u64>(),
    ) {
        let corpus = numbered(&sizes, segments);
        let how = Split::Holdout { test_fraction };
        let data = split(corpus.clone(), &how, kind, seed).unwrap();
        let tested = class_sizes(&data.test, sizes.len());
        for (&n, &tested) in sizes.iter().zip(&tested) {
            let wanted = (n as f64 * test_fraction).round() as usize;
            prop_assert_eq!(tested, wanted.max(1).min(n - 1));
        }
        prop_assert!(data.train.track_names.iter().all(|name| !data.test.track_names.contains(name)));
        prop_assert_eq!(data.train.len() + data.test.len(), whole(&corpus).len());
        prop_assert!(kind == Kind::Random || is_in_runs(&data.test, &sizes));
        rows_are_intact(&data.train, &corpus);
        rows_are_intact(&data.test, &corpus);
        prop_assert_eq!(data, split(corpus, &how, kind, seed).unwrap());
    }

    #[test]
    fn folds_partition_the_tracks(
        folds in 2usize..7,
        extra in prop::collection::vec(0usize..20, 2..6),
        kind in kinds(),
        seed in any::<u64>(),
    ) {
        let sizes: Vec<usize> = extra.iter().map(|extra| folds + extra).collect();
        let corpus = numbered(&sizes, 2);
        let mut times_tested: HashMap<String, usize> = HashMap::new();
        let (mut per_class, mut totals) = (Vec::new(), Vec::new());
        for fold in 0..folds {
            let data = split(corpus.clone(), &Split::Folds { folds, fold }, kind, seed).unwrap();
            rows_are_intact(&data.train, &corpus);
            rows_are_intact(&data.test, &corpus);
            prop_assert!(data.train.track_names.iter().all(|name| !data.test.track_names.contains(name)));
            prop_assert_eq!(data.train.len() + data.test.len(), whole(&corpus).len());
            per_class.push(class_sizes(&data.test, sizes.len()));
            prop_assert!(kind == Kind::Random || is_in_runs(&data.test, &sizes));
            totals.push(data.test.track_names.len());
            data.test.track_names.into_iter().for_each(|name| *times_tested.entry(name).or_default() += 1);
        }
        prop_assert_eq!(times_tested.len(), sizes.iter().sum::<usize>());
        prop_assert!(times_tested.values().all(|&times| times == 1));
        for class in 0..sizes.len() {
            let of_class = || per_class.iter().map(|sizes| sizes[class]);
            prop_assert!(of_class().max().unwrap() - of_class().min().unwrap() <= 1);
        }
        prop_assert!(totals.iter().max().unwrap() - totals.iter().min().unwrap() <= 1);
    }
}

#[test]
fn the_report_s_split_is_750_to_250() {
    let data = split(numbered(&[100; 10], 15), &Split::default(), Kind::Random, 1).unwrap();
    assert_eq!((data.train.track_names.len(), data.test.track_names.len()), (750, 250));
    assert_eq!((data.train.len(), data.test.len()), (11_250, 3_750));
    assert_eq!(class_sizes(&data.test, 10), [25; 10]);
}

#[test]
fn a_split_depends_on_its_seed_and_a_class_s_on_that_class_alone() {
    let tested = |sizes: &[usize], seed| {
        let data = split(numbered(sizes, 1), &Split::default(), Kind::Random, seed).unwrap();
        let of_first = |name: &String| name.starts_with("c0.");
        data.test.track_names.into_iter().filter(of_first).collect::<Vec<_>>()
    };
    assert_eq!(tested(&[40, 10], 1), tested(&[40, 37, 8], 1));
    assert_ne!(tested(&[40, 10], 1), tested(&[40, 10], 2));
    let first: Vec<String> = (0..10).map(|track| format!("c0.{track:05}")).collect();
    assert_ne!(tested(&[40, 10], 1), first);
}

#[test]
fn splits_without_sense_are_refused() {
    for test_fraction in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        line(split(numbered(&[4, 4], 1), &Split::Holdout { test_fraction }, Kind::Random, 1));
    }
    for (folds, fold) in [(0, 0), (1, 0), (4, 4)] {
        line(split(numbered(&[4, 4], 1), &Split::Folds { folds, fold }, Kind::Random, 1));
    }
    let message = line(split(numbered(&[4, 3], 1), &Split::Folds { folds: 4, fold: 0 }, Kind::Random, 1));
    assert!(message.contains("class c1 has 3 tracks, this split needs at least 4"), "{message}");
    let message = line(split(numbered(&[4, 1], 1), &Split::default(), Kind::Random, 1));
    assert!(message.contains("class c1 has 1 tracks"), "{message}");
}

#[test]
fn a_given_split_is_kept_and_not_folded() {
    let Dataset { meta, train, test } = split(numbered(&[4, 4], 2), &Split::default(), Kind::Random, 1).unwrap();
    let content = Content::Split { train: train.clone(), test: test.clone(), kind: Kind::Random };
    let corpus = Corpus { meta: meta.clone(), content, skipped: Vec::new(), notes: Vec::new() };
    let again = split(corpus.clone(), &Split::Holdout { test_fraction: 0.9 }, Kind::Random, 77).unwrap();
    assert_eq!(again, Dataset { meta, train, test });
    let message = line(split(corpus, &Split::Folds { folds: 2, fold: 0 }, Kind::Random, 1));
    assert!(message.contains("comes with its own split"), "{message}");
}

#[test]
fn a_block_is_a_run_of_neighbours_that_wraps() {
    let tested = |how: &Split, seed| -> Vec<usize> {
        let data = split(numbered(&[10, 6], 1), how, Kind::Blocks, seed).unwrap();
        let of_first = data.test.track_names.iter().filter_map(|name| name.strip_prefix("c0."));
        of_first.map(|number| number.parse().unwrap()).collect()
    };
    // 30 % of ten tracks: three neighbours, wherever they start
    let how = Split::Holdout { test_fraction: 0.3 };
    let runs: BTreeSet<Vec<usize>> = (0..200).map(|seed| tested(&how, seed)).collect();
    let expected = (0..10).map(|start| {
        let mut run = [0, 1, 2].map(|i| (start + i) % 10).to_vec();
        run.sort_unstable();
        run
    });
    assert_eq!(runs, expected.collect());
    // three folds of 10 = 4 + 3 + 3, one after the other
    let folds: Vec<Vec<usize>> = (0..3).map(|fold| tested(&Split::Folds { folds: 3, fold }, 5)).collect();
    assert_eq!(folds.iter().map(Vec::len).collect::<Vec<_>>(), [4, 3, 3]);
    for (fold, next) in folds.iter().zip(folds.iter().cycle().skip(1)) {
        let last = fold.iter().find(|&&track| !fold.contains(&((track + 1) % 10))).unwrap();
        assert!(next.contains(&((last + 1) % 10)), "{folds:?}");
    }
}

#[test]
fn blocks_go_by_number_and_not_by_place() {
    let mut corpus = numbered(&[4, 2], 1);
    let Content::Whole(set) = &mut corpus.content else { panic!("it has no split") };
    for (name, number) in set.track_names.iter_mut().zip(["10", "9", "100", "2"]) {
        *name = format!("c0/{number}");
    }
    let halves: BTreeSet<Vec<String>> = (0..100)
        .map(|seed| split(corpus.clone(), &Split::Holdout { test_fraction: 0.5 }, Kind::Blocks, seed).unwrap())
        .map(|data| data.test.track_names[..2].to_vec())
        .collect();
    // in the order of the corpus: 2 9, 9 10, 10 100, 100 2
    let expected = [["9", "2"], ["10", "9"], ["10", "100"], ["100", "2"]];
    assert_eq!(halves, expected.map(|run| run.map(|number| format!("c0/{number}")).to_vec()).into());
}

#[test]
fn blocks_that_are_there_are_kept_and_others_not_called_so() {
    let how = Split::default();
    let Dataset { meta, train, test } = split(numbered(&[4, 4], 2), &how, Kind::Blocks, 1).unwrap();
    let given = |kind| {
        let content = Content::Split { train: train.clone(), test: test.clone(), kind };
        Corpus { meta: meta.clone(), content, skipped: Vec::new(), notes: Vec::new() }
    };
    let again = split(given(Kind::Blocks), &how, Kind::Blocks, 77).unwrap();
    assert_eq!((&again.train, &again.test), (&train, &test));
    let message = line(split(given(Kind::Random), &how, Kind::Blocks, 77));
    assert!(message.contains("comes with its own split; --split blocks needs undivided tracks"), "{message}");

    let folder = fresh();
    let path = folder.path().join("p");
    for kind in [Kind::Blocks, Kind::Random] {
        prepared::write(&path, &again, kind, &BTreeMap::new()).unwrap();
        assert_eq!(prepared::split(&path).unwrap(), kind);
        assert_eq!(prepared::read(&path).unwrap().content, given(kind).content);
        let corpus = prepared::read(&path).unwrap();
        prepared::write_corpus(&path, &corpus).unwrap();
        assert_eq!(prepared::read(&path).unwrap(), corpus);
    }
}

// ---- prepared files ----

/// A small data set whose numbers are all different.
fn small() -> Dataset {
    let mut corpus = numbered(&[4, 3], 2);
    corpus.meta.name = "small".into();
    let mut data = split(corpus, &Split::default(), Kind::Random, 1).unwrap();
    (data.meta.bins, data.meta.frames, data.meta.front_end) = (80, 3, FrontEnd::default());
    for set in [&mut data.train, &mut data.test] {
        set.spectrograms =
            set.spectrograms.iter().flat_map(|row| (0..240).map(move |i| row - i as f32 / 7.0)).collect();
    }
    data
}

fn as_corpus(data: Dataset) -> Corpus {
    let content = Content::Split { train: data.train, test: data.test, kind: Kind::Random };
    Corpus { meta: data.meta, content, skipped: Vec::new(), notes: Vec::new() }
}

#[test]
fn a_prepared_file_round_trips_and_is_plain_safetensors() {
    let folder = fresh();
    let path = folder.path().join("small.safetensors");
    let data = small();
    let extra = BTreeMap::from([("preset".to_owned(), "report".to_owned())]);
    prepared::write(&path, &data, Kind::Random, &extra).unwrap();
    assert!(prepared::is_prepared(&path));
    assert_eq!(prepared::read(&path).unwrap(), as_corpus(data.clone()));
    assert_eq!(load_uncached(&path).unwrap(), as_corpus(data.clone()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the file is left");

    // by the library that everyone else reads it with
    let bytes = fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let texts = header.metadata().clone().unwrap();
    for (key, value) in [("format", "genregrad.prepared.2"), ("preset", "report"), ("classes", r#"["c0","c1"]"#)] {
        assert_eq!(texts[key], value);
    }
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let expected = ["labels", "spectrograms", "tracks"];
    assert_eq!(names, ["test", "train"].map(|side| expected.map(|what| format!("{side}.{what}"))).concat());
    let rows = data.train.len();
    let spectrograms = file.tensor("train.spectrograms").unwrap();
    assert_eq!((spectrograms.dtype(), spectrograms.shape()), (Dtype::F32, [rows, 80, 3].as_slice()));
    let labels = file.tensor("train.labels").unwrap();
    assert_eq!((labels.dtype(), labels.shape()), (Dtype::I64, [rows].as_slice()));
    assert_eq!(labels.data()[..8], i64::from(data.train.labels[0]).to_le_bytes());

    // equal data make equal files
    let again = folder.path().join("again.safetensors");
    prepared::write(&again, &data, Kind::Random, &extra).unwrap();
    assert_eq!(bytes, fs::read(again).unwrap());
}

/// A file as another tool would write it.
struct Foreign {
    tensors: BTreeMap<&'static str, (Dtype, Vec<usize>, Vec<u8>)>,
    texts: HashMap<String, String>,
}

impl Foreign {
    /// 4 training rows of 2 tracks, 2 test rows of 1 track, 3 x 2 spectrograms, labels of type i32.
    fn good() -> Self {
        let bytes = |values: &[i32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let floats = |n: usize| (0..n).flat_map(|v| (v as f32).to_le_bytes()).collect::<Vec<u8>>();
        let tensors = BTreeMap::from([
            ("train.spectrograms", (Dtype::F32, vec![4, 3, 2], floats(24))),
            ("train.labels", (Dtype::I32, vec![4], bytes(&[0, 0, 1, 1]))),
            ("train.tracks", (Dtype::I32, vec![4], bytes(&[30, 30, 20, 20]))),
            ("test.spectrograms", (Dtype::F32, vec![2, 3, 2], floats(12))),
            ("test.labels", (Dtype::U8, vec![2], vec![1, 1])),
            ("test.tracks", (Dtype::U8, vec![2], vec![9, 9])),
        ]);
        Foreign { tensors, texts: HashMap::new() }
    }

    /// The same with spectrograms of so many bins.
    fn resize(&mut self, bins: usize) {
        for (dtype, shape, bytes) in self.tensors.values_mut().filter(|(dtype, ..)| *dtype == Dtype::F32) {
            assert_eq!(dtype.bitsize(), 32);
            *shape = vec![shape[0], bins, 2];
            bytes.resize(4 * shape.iter().product::<usize>(), 0);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (*name, TensorView::new(*dtype, shape.clone(), data).expect("a well-formed tensor"))
        });
        safetensors::serialize(views, Some(self.texts.clone())).unwrap()
    }
}

fn read_bytes(bytes: &[u8]) -> genregrad::error::Result<Corpus> {
    let folder = fresh();
    let path = folder.path().join("data.safetensors");
    fs::write(&path, bytes).unwrap();
    prepared::read(&path)
}

#[test]
fn another_tool_s_file_without_metadata_is_read() {
    let corpus = read_bytes(&Foreign::good().bytes()).unwrap();
    assert_eq!(corpus.meta.classes, ["class 0", "class 1"]);
    assert_eq!((corpus.meta.bins, corpus.meta.frames), (3, 2));
    assert_eq!(corpus.meta.name, "data.safetensors");
    assert!(corpus.notes[0].contains("names no front end"), "{:?}", corpus.notes);
    let Content::Split { train, test, .. } = corpus.content else { panic!("it has a split") };
    assert_eq!((train.labels, train.tracks), (vec![0, 0, 1, 1], vec![0, 0, 1, 1]));
    assert_eq!(train.track_names, ["train track 30", "train track 20"]);
    assert_eq!(test.track_names, ["test track 9"]);
    assert_eq!(train.spectrograms[23], 23.0);
}

/// Makes one thing wrong.
type Spoil<T> = fn(&mut T);

#[test]
fn prepared_files_that_contradict_themselves_are_refused() {
    let cases: [(&str, Spoil<Foreign>); 17] = [
        ("no tensor `test.labels`", |f| drop(f.tensors.remove("test.labels"))),
        ("no tensor `train.spectrograms`", |f| drop(f.tensors.remove("train.spectrograms"))),
        ("expected [N, bins, frames], got [4, 6]", |f| f.tensors.get_mut("train.spectrograms").unwrap().1 = vec![4, 6]),
        ("expected F32, got I32", |f| f.tensors.get_mut("train.spectrograms").unwrap().0 = Dtype::I32),
        ("expected integers (I64), got F32", |f| f.tensors.get_mut("train.labels").unwrap().0 = Dtype::F32),
        ("train.labels: expected [N], got [4, 1]", |f| f.tensors.get_mut("train.labels").unwrap().1 = vec![4, 1]),
        ("2 x 3, but the training set's are 3 x 2", |f| {
            f.tensors.get_mut("test.spectrograms").unwrap().1 = vec![2, 2, 3];
        }),
        ("4 spectrograms, 3 labels, 4 tracks", |f| {
            f.tensors.insert("train.labels", (Dtype::U8, vec![3], vec![0, 0, 1]));
        }),
        ("empty", |f| {
            f.tensors.insert("test.spectrograms", (Dtype::F32, vec![0, 3, 2], vec![]));
            f.tensors.insert("test.labels", (Dtype::U8, vec![0], vec![]));
            f.tensors.insert("test.tracks", (Dtype::U8, vec![0], vec![]));
        }),
        ("row 1 is -1", |f| {
            f.tensors.insert("test.labels", (Dtype::I8, vec![2], vec![1, 255]));
        }),
        ("1 classes; expected 2 to 1000", |f| drop(f.texts.insert("classes".into(), r#"["only"]"#.into()))),
        ("test.labels: row 1 has label 2, but there are 2 classes", |f| {
            f.texts.insert("classes".into(), r#"["a", "b"]"#.into());
            f.tensors.get_mut("test.labels").unwrap().2[1] = 2;
            f.tensors.get_mut("test.tracks").unwrap().2[1] = 8;
        }),
        ("label 40000 is no class's number", |f| {
            f.tensors.insert("test.labels", (Dtype::U16, vec![2], [40_000u16.to_le_bytes(); 2].concat()));
        }),
        ("train.spectrograms: row 3 holds NaN", |f| {
            f.tensors.get_mut("train.spectrograms").unwrap().2[92..].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        ("test: track 9 has rows of class 1 and of class 0", |f| f.tensors.get_mut("test.labels").unwrap().2[1] = 0),
        ("metadata `classes`", |f| drop(f.texts.insert("classes".into(), "blues, rock".into()))),
        ("front_end has 80 bins, but the spectrograms have 3", |f| {
            let front_end = serde_json::to_string(&FrontEnd::default()).unwrap();
            f.texts.insert("front_end".into(), front_end);
        }),
    ];
    for (expected, spoil) in cases {
        let mut file = Foreign::good();
        spoil(&mut file);
        let message = line(read_bytes(&file.bytes()));
        assert!(message.contains(expected), "expected {expected}, got {message}");
        assert!(message.contains("data.safetensors"), "{message}");
    }
}

#[test]
fn a_truncated_file_and_one_that_lies_about_its_size_are_refused() {
    let folder = fresh();
    let path = folder.path().join("small.safetensors");
    prepared::write(&path, &small(), Kind::Random, &BTreeMap::new()).unwrap();
    let good = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for length in [0, 7, 8, 100, header - 1, header, header + 9, good.len() - 1] {
        line(read_bytes(&good[..length]));
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(line(read_bytes(&longer)).contains("the file has"));

    for claimed in [u64::MAX, 100_000_001, 99_999_999, 0, 2] {
        let mut lying = good.clone();
        lying[..8].copy_from_slice(&claimed.to_le_bytes());
        line(read_bytes(&lying));
    }
    let huge =
        r#"{"all.spectrograms":{"dtype":"F32","shape":[1000000000,1000000,1],"data_offsets":[0,4000000000000000]}}"#;
    let bytes = [&(huge.len() as u64).to_le_bytes()[..], huge.as_bytes()].concat();
    assert!(line(read_bytes(&bytes)).contains("truncated or damaged"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_damaged_byte_never_panics_and_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let folder = fresh();
        let path = folder.path().join("small.safetensors");
        prepared::write(&path, &small(), Kind::Random, &BTreeMap::new()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // one space for another between the header's parts changes nothing
        prop_assert!(read_bytes(&bytes).map_or(true, |read| read == as_corpus(small())), "byte {at}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let folder = fresh();
    let path = folder.path().join("small.safetensors");
    let mut data = small();
    data.train.deformed = (0..data.train.len()).map(|row| u8::from(row % 3 == 1)).collect();
    let extra = BTreeMap::from([("settings".to_owned(), "segments = 2".to_owned())]);
    prepared::write(&path, &data, Kind::Random, &extra).unwrap();
    let good = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    assert!(prepared::read(&path).is_ok());
    for at in 0..header + 64 {
        for bit in [at % 8, (at + 5) % 8] {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            assert!(prepared::read(&path).is_err(), "bit {bit} of byte {at}, {:?}", char::from(good[at]));
        }
    }
}

#[test]
fn a_prepared_file_of_the_first_form_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/prepared_1.safetensors");
    let corpus = prepared::read(&path).unwrap();
    assert_eq!((corpus.meta.classes.len(), corpus.meta.bins, corpus.meta.frames), (10, 2, 80));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(line(read_bytes(&bytes)).contains("does not match its checksum"));
}

#[test]
fn a_file_that_names_no_front_end_has_one_of_as_many_bins() {
    let folder = fresh();
    let path = folder.path().join("named.safetensors");
    prepared::write(&path, &small(), Kind::Random, &BTreeMap::new()).unwrap();
    for bins in [3, 84] {
        let mut foreign = Foreign::good();
        foreign.resize(bins);
        fs::write(&path, foreign.bytes()).unwrap();
        let corpus = prepared::read(&path).unwrap();
        assert_eq!(corpus.meta.front_end, FrontEnd::default().with_bins(bins));
        assert_eq!(prepared::front_end(&path).unwrap(), corpus.meta.front_end);
        let Content::Split { train, test, .. } = corpus.content else { panic!("it has a split") };
        let copy = folder.path().join("copy.safetensors");
        let meta = corpus.meta.clone();
        prepared::write(&copy, &Dataset { meta: corpus.meta, train, test }, Kind::Random, &BTreeMap::new()).unwrap();
        assert_eq!(prepared::read(&copy).unwrap().meta, meta, "its copy is read as well");
    }
}

#[test]
fn nothing_is_left_where_a_file_cannot_be_written() {
    let folder = fresh();
    let message =
        line(prepared::write(&folder.path().join("missing/out.safetensors"), &small(), Kind::Random, &BTreeMap::new()));
    assert!(message.contains("out.safetensors: cannot write"), "{message}");
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("x"), "").unwrap();
    let message = line(prepared::write(&taken, &small(), Kind::Random, &BTreeMap::new()));
    assert!(message.contains("taken: a folder; name a file"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

// ---- the course's pickle, once read ----

fn raw() -> pickle::Raw {
    let segment = |value: f32| (0..SEGMENT_SAMPLES).map(|i| value * (i as f32 / 9.0).sin()).collect::<Vec<_>>();
    pickle::Raw {
        train: pickle::RawSet {
            segments: vec![segment(0.1), segment(0.2), segment(0.3)],
            labels: vec![0, 0, 9],
            tracks: vec![12, 12, 40],
        },
        test: pickle::RawSet { segments: vec![segment(0.4)], labels: vec![9], tracks: vec![12] },
        scale_note: "samples are taken as they are".into(),
    }
}

#[test]
fn a_pickle_keeps_its_split_and_gets_gtzan_s_names() {
    let path = Path::new("music_genres_dataset.pkl");
    let corpus = load::from_pickle(raw(), path, &FrontEnd::default(), &quiet).unwrap();
    assert_eq!(corpus.meta.name, "music_genres_dataset.pkl");
    assert_eq!((corpus.meta.classes.len(), corpus.meta.classes[9].as_str()), (10, "rock"));
    assert_eq!(corpus.notes, ["samples are taken as they are"]);
    let Content::Split { train, test, .. } = corpus.content else { panic!("it has a split") };
    assert_eq!((&train.labels[..], &train.tracks[..]), ([0, 0, 9].as_slice(), [0, 0, 1].as_slice()));
    assert_eq!(train.track_names, ["train track 12", "train track 40"]);
    assert_eq!(test.track_names, ["test track 12"]);
    assert_eq!((train.spectrograms.len(), test.spectrograms.len()), (3 * 6400, 6400));
    let plan = FrontEnd::default().plan().unwrap();
    let mut expected = vec![0.0; 6400];
    plan.transform(&raw().train.segments[1], &mut expected);
    assert_eq!(train.spectrograms[6400..12_800], expected);

    // the first 20,462 samples of longer segments
    let mut longer = raw();
    longer.test.segments[0].push(0.5);
    let longer = load::from_pickle(longer, path, &FrontEnd::default(), &quiet).unwrap();
    assert_eq!(longer.content, Content::Split { train, test, kind: Kind::Random });
    assert!(longer.notes[1].contains("test set: segments have up to 20463 samples"), "{:?}", longer.notes);

    let mut many = raw();
    many.train.labels = vec![3, 3, 0];
    many.test.labels = vec![3];
    assert_eq!(load::from_pickle(many, path, &FrontEnd::default(), &quiet).unwrap().meta.classes, load::GTZAN);
}

#[test]
fn a_pickle_that_contradicts_itself_is_refused() {
    let cases: [(&str, Spoil<pickle::Raw>); 7] = [
        ("train set: segment 1 has 20461 samples, 20462 are needed", |raw| raw.train.segments[1].truncate(20_461)),
        ("test set: segment 0: sample 5 is inf", |raw| raw.test.segments[0][5] = f32::INFINITY),
        ("train set: 3 segments, 2 labels and 3 tracks", |raw| raw.train.labels.truncate(2)),
        ("test set: 0 segments", |raw| {
            raw.test = pickle::RawSet { segments: vec![], labels: vec![], tracks: vec![] };
        }),
        ("label 4000000000 is no class's number", |raw| raw.test.labels[0] = 4_000_000_000),
        ("track 12 has rows of class 0 and of class 9", |raw| raw.train.labels[1] = 9),
        ("rows of track 12 do not stand together", |raw| raw.train.tracks = vec![12, 40, 12]),
    ];
    for (expected, spoil) in cases {
        let mut raw = raw();
        spoil(&mut raw);
        let message = line(load::from_pickle(raw, Path::new("course.pkl"), &FrontEnd::default(), &quiet));
        assert!(message.contains(expected) && message.starts_with("course.pkl: "), "{message}");
    }
}

#[test]
fn the_course_s_file_is_known_by_its_content() {
    let (root, folder) = (fresh(), fresh());
    let path = root.path().join("no-ending");
    let mut file = fs::File::create(&path).unwrap();
    for set in [raw().train, raw().test] {
        let dict = serde_json::json!({ "data": set.segments, "labels": set.labels, "track_id": set.tracks });
        serde_pickle::to_writer(&mut file, &dict, serde_pickle::SerOptions::new().proto_v2()).unwrap();
    }
    let cache = Cache::at(folder.path());
    let source = Source::Path(path.clone());
    let (first, made) = cached(&cache, &source, &SETTINGS());
    assert!(made);
    let Content::Split { train, test, .. } = &first.content else { panic!("it has a split") };
    assert_eq!((train.labels.as_slice(), test.labels.as_slice()), ([0, 0, 9].as_slice(), [9].as_slice()));
    assert_eq!(first.meta.name, "no-ending");
    let (second, made) = cached(&cache, &source, &SETTINGS());
    assert!(!made);
    assert_eq!(first, second);

    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    line(load_with(&cache, &source, &SETTINGS(), &quiet));
    only_file(folder.path());
}

// ---- the cache ----

/// Loads through the cache; returns the corpus and whether it had to be made.
fn cached(cache: &Cache, source: &Source, settings: &Settings) -> (Corpus, bool) {
    let calls = AtomicUsize::new(0);
    let progress = |_: usize, _: usize| {
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let corpus = load_with(cache, source, settings, &progress).unwrap();
    (corpus, calls.into_inner() > 0)
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn the_second_run_finds_a_bit_equal_corpus() {
    let (root, folder) = (fresh(), fresh());
    let data = root.path().join("mine");
    genres(&data, &[("blues", 2), ("rock", 2)]);
    fs::write(data.join("rock/bad.wav"), "text").unwrap();
    let cache = Cache::at(folder.path().join("made/when/needed"));
    let source = Source::Path(data.clone());
    let (first, made) = cached(&cache, &source, &SETTINGS());
    assert!(made);
    let (second, made) = cached(&cache, &source, &SETTINGS());
    assert!(!made);
    assert_eq!(first, second);
    assert_eq!(second.skipped.len(), 1, "what was skipped is still known");
    let bits = |corpus: &Corpus| whole(corpus).spectrograms.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&first), bits(&second));

    // the same content elsewhere is the same corpus under its new name
    let moved = root.path().join("moved");
    fs::rename(&data, &moved).unwrap();
    let (third, made) = cached(&cache, &Source::Path(moved.clone()), &SETTINGS());
    assert!(!made);
    assert_eq!((third.meta.name.as_str(), &third.content), ("moved", &first.content));

    // whatever changes makes another corpus
    for settings in [Settings { seed: 6, ..SETTINGS() }, Settings { segments: 2, ..SETTINGS() }] {
        assert!(cached(&cache, &Source::Path(moved.clone()), &settings).1);
    }
    fs::rename(moved.join("rock/rock.00000.wav"), moved.join("rock/rock.00007.wav")).unwrap();
    assert!(cached(&cache, &Source::Path(moved.clone()), &SETTINGS()).1);
    write_wav(&moved.join("rock/rock.00001.wav"), (0..30_000).map(|i| (i % 100) as f32 / 200.0));
    assert!(cached(&cache, &Source::Path(moved), &SETTINGS()).1);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let (root, folder) = (fresh(), fresh());
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    let cache = Cache::at(folder.path());
    let source = Source::Path(root.path().to_owned());
    let (first, _) = cached(&cache, &source, &SETTINGS());
    let file = only_file(folder.path());
    let good = fs::read(&file).unwrap();

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&good[..good.len() / 2], b"", b"not safetensors at all", &flipped] {
        fs::write(&file, damaged).unwrap();
        let (again, made) = cached(&cache, &source, &SETTINGS());
        assert!(made);
        assert_eq!(first, again);
        assert_eq!(fs::read(only_file(folder.path())).unwrap(), good, "and written anew");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_a_note_and_no_error() {
    let (root, folder) = (fresh(), fresh());
    genres(root.path(), &[("blues", 2), ("rock", 2)]);
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let source = Source::Path(root.path().to_owned());
    let (corpus, made) = cached(&Cache::at(file.join("cache")), &source, &SETTINGS());
    assert!(made);
    assert!(corpus.notes[0].contains("the cache could not be written"), "{:?}", corpus.notes);
    assert_eq!(whole(&corpus), whole(&load_uncached(root.path()).unwrap()));
}

#[test]
fn the_built_in_corpus_is_cached() {
    let folder = fresh();
    let cache = Cache::at(folder.path());
    let source = Source::Synthetic { tracks_per_genre: 2 };
    let settings = Settings { segments: 1, ..SETTINGS() };
    let (first, made) = cached(&cache, &source, &settings);
    assert!(made);
    let (second, made) = cached(&cache, &source, &settings);
    assert!(!made && first == second && second.meta.synthetic);
    assert!(cached(&cache, &Source::Synthetic { tracks_per_genre: 3 }, &settings).1);
}

// ---- a track once more ----

/// Every track of `set` is heard as its rows were made; returns the number of rows.
fn is_heard(source: &Source, settings: &Settings, set: &Set) -> usize {
    let sound = Sound::open(source, settings).unwrap();
    let row = settings.front_end.bins() * settings.front_end.frames(SEGMENT_SAMPLES);
    let plan = settings.front_end.plan().unwrap();
    let mut rows = set.spectrograms.chunks_exact(row);
    for (number, name) in set.track_names.iter().enumerate() {
        let segments = sound.segments(name).unwrap();
        assert_eq!(segments.len(), set.tracks.iter().filter(|&&track| track as usize == number).count());
        for segment in segments {
            let expected = rows.next().unwrap();
            assert_eq!(segment.spectrogram, expected, "{name}");
            let samples = segment.samples.unwrap();
            assert_eq!(samples.len(), SEGMENT_SAMPLES);
            let mut made = vec![0.0; row];
            plan.transform(&samples, &mut made);
            assert_eq!(made, expected, "{name}");
        }
    }
    assert!(rows.next().is_none() && sound.is_audible());
    set.len()
}

#[test]
fn segments_of_a_folder_are_heard_as_they_are_seen() {
    let root = fresh();
    genres(root.path(), &[("blues", 2), ("jazz", 2)]);
    // a track that is not called after its class, and one whose first copy is damaged
    write_track(&root.path().join("jazz/solo.wav"));
    fs::write(root.path().join("blues/take.au"), "no audio").unwrap();
    write_track(&root.path().join("blues/take.wav"));
    let source = Source::Path(root.path().to_owned());
    for front_end in [audio::Kind::Mel, audio::Kind::Cqt] {
        let settings = Settings { front_end: front_end.into(), ..SETTINGS() };
        let corpus = load_with(&Cache::none(), &source, &settings, &quiet).unwrap();
        assert_eq!(is_heard(&source, &settings, whole(&corpus)), 6 * 3);
    }

    let settings = SETTINGS();
    let sound = Sound::open(&source, &settings).unwrap();
    let starts = segments::starts(settings.seed, "jazz", "solo", 30_000, 3);
    let heard = sound.segments("jazz/solo").unwrap();
    let seconds: Vec<Option<f64>> = starts.iter().map(|&start| Some(start as f64 / 22_050.0)).collect();
    assert_eq!(heard.iter().map(|segment| segment.start).collect::<Vec<_>>(), seconds);
    // what was drawn is a part of the file, sample for sample
    let track = audio::decode::decode(&root.path().join("jazz/solo.wav")).unwrap();
    for (start, segment) in starts.into_iter().zip(heard) {
        assert_eq!(segment.samples.unwrap(), track[start..start + SEGMENT_SAMPLES]);
    }
    for unknown in ["solo", "jazz/solo.wav", "jazz.00009", "../jazz/solo", ""] {
        assert!(line(sound.segments(unknown)).ends_with(&format!("has no track {unknown} any more")));
    }
    fs::remove_file(root.path().join("jazz/solo.wav")).unwrap();
    assert!(sound.segments("jazz/solo").is_err(), "it is gone");
}

#[test]
fn segments_of_the_built_in_corpus_are_heard_as_they_are_seen() {
    let (source, settings) = (Source::Synthetic { tracks_per_genre: 2 }, SETTINGS());
    let corpus = load_with(&Cache::none(), &source, &settings, &quiet).unwrap();
    let set = whole(&corpus);
    assert_eq!(is_heard(&source, &settings, set), 20 * 3);
    let sound = Sound::open(&source, &settings).unwrap();
    let genre = set.track_names[0].split('.').next().unwrap();
    for unknown in ["00002", "0", "000000", "-1"] {
        assert!(sound.segments(&format!("{genre}.{unknown}")).is_err(), "{unknown}");
    }
}

#[test]
fn a_pickle_s_test_segments_are_heard_and_a_prepared_file_s_are_only_seen() {
    let root = fresh();
    let path = root.path().join("course.pkl");
    let mut file = fs::File::create(&path).unwrap();
    for set in [raw().train, raw().test] {
        let dict = serde_json::json!({ "data": set.segments, "labels": set.labels, "track_id": set.tracks });
        serde_pickle::to_writer(&mut file, &dict, serde_pickle::SerOptions::new().proto_v2()).unwrap();
    }
    let (source, settings) = (Source::Path(path), SETTINGS());
    let corpus = load_with(&Cache::none(), &source, &settings, &quiet).unwrap();
    let Content::Split { test, .. } = &corpus.content else { panic!("it has a split") };
    assert_eq!(is_heard(&source, &settings, test), 1);
    let sound = Sound::open(&source, &settings).unwrap();
    assert_eq!(sound.segments(&test.track_names[0]).unwrap()[0].start, None);
    assert!(sound.segments("train track 0").is_err() && sound.segments("test track 7").is_err());

    let prepared = root.path().join("prepared.safetensors");
    prepared::write_corpus(&prepared, &corpus).unwrap();
    let sound = Sound::open(&Source::Path(prepared), &settings).unwrap();
    assert!(!sound.is_audible());
    let seen = sound.segments(&test.track_names[0]).unwrap();
    assert_eq!((seen.len(), &seen[0].samples, &seen[0].spectrogram), (1, &None, &test.spectrograms));
    assert!(sound.segments("train track 1").unwrap().len() == 1 && sound.segments("nobody").is_err());
}
