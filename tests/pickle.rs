//! The course's pickle: every writer's form, every way in which a file can be wrong.

#![allow(clippy::unwrap_used)] // also in functions that tests share

use std::path::{Path, PathBuf};

use genregrad::data::pickle::{self, Raw, RawSet};
use genregrad::error::Result;
use proptest::prelude::*;
use serde::Serialize;

/// Samples of a segment in the golden files.
const SAMPLES: usize = 20;

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "pkl")).collect();
    paths.sort();
    assert!(paths.len() >= 60, "{} golden files", paths.len());
    paths
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles").join(name)).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Raw> {
    pickle::read_from(Path::new("songs.pkl"), bytes, 2)
}

/// The error, on one line and naming the file.
fn refusal(bytes: &[u8]) -> String {
    let line = parse(bytes).unwrap_err().one_line();
    assert!(line.starts_with("songs.pkl: ") && !line.contains(char::is_control), "{line:?}");
    line
}

/// Sample j of segment i, as in make_pickles.py.
fn sample(i: i32, j: i32) -> f32 {
    let size = 700 * i + 41 * j + 5;
    (if j % 2 == 0 { size } else { -size }) as f32
}

#[test]
fn every_writers_form_gives_the_same_corpus() {
    for path in goldens() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let int = name.contains("int");
        let segment = |i| -> Vec<f32> {
            let scale = if int { 32_768.0 } else { 4096.0 };
            (0..SAMPLES as i32).map(|j| sample(i, j) / scale).collect()
        };
        let train = RawSet { segments: (0..3).map(segment).collect(), labels: vec![0, 0, 3], tracks: vec![0, 0, 1] };
        let test = RawSet { segments: (3..5).map(segment).collect(), labels: vec![9, 9], tracks: vec![0, 0] };
        // the peak is sample(4, 19) = -(2800 + 779 + 5)
        let scale_note = if name.contains("int16") {
            "samples are 16-bit integers (peak 3584): divided by 32,768"
        } else if int {
            "samples look like 16-bit integers (peak 3584): divided by 32,768"
        } else {
            "samples look like floats in -1..1 (peak 0.875): used as they are"
        };
        assert!(pickle::is_pickle(&path), "{name}");
        let raw = pickle::read_with(&path, SAMPLES).unwrap_or_else(|e| panic!("{}", e.one_line()));
        assert_eq!(raw, Raw { train, test, scale_note: scale_note.into() }, "{name}");

        let error = pickle::read_with(&path, SAMPLES + 1).unwrap_err().one_line();
        assert!(error.ends_with("train pickle: data[0] has 20 samples; expected at least 21"), "{error}");
        let error = pickle::read(&path).unwrap_err().one_line();
        assert!(error.ends_with("expected at least 20462"), "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_says_where() {
    for path in goldens() {
        let whole = std::fs::read(&path).unwrap();
        let mut complete = 0;
        for n in 0..whole.len() {
            let line = pickle::read_from(Path::new("cut.pkl"), &whole[..n], SAMPLES).unwrap_err().one_line();
            if line == "cut.pkl: has only one pickle; expected train then test" {
                complete += 1;
            } else {
                assert_eq!(line, format!("cut.pkl: truncated at byte {n}; get the file again"));
            }
        }
        assert_eq!(complete, 1, "{}", path.display());
    }
}

/// Whatever comes, it is an error of one line or a corpus that keeps its promises.
fn survives(bytes: &[u8]) {
    match parse(bytes) {
        Err(error) => assert!(!error.one_line().contains(char::is_control), "{error:?}"),
        Ok(raw) => {
            for set in [&raw.train, &raw.test] {
                assert!(!set.segments.is_empty());
                assert_eq!((set.labels.len(), set.tracks.len()), (set.segments.len(), set.segments.len()));
                assert!(set.segments.iter().flatten().all(|s| s.is_finite()));
                assert!(set.labels.iter().all(|&label| label < 1000));
                assert!(set.tracks.is_sorted() && set.tracks[0] == 0);
            }
        }
    }
}

/// Most address space that the process ever had, in MiB: what is reserved counts, touched or not.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[cfg(not(target_os = "linux"))]
fn peak_memory() -> u64 {
    0
}

#[test]
fn no_changed_byte_panics_or_takes_memory() {
    let before = peak_memory();
    for (file, path) in goldens().into_iter().enumerate() {
        let whole = std::fs::read(path).unwrap();
        for i in 0..whole.len() {
            // every byte of every file is changed, in turn to neighbours, to its opposite, to 0 and to STOP
            let mut bytes = whole.clone();
            bytes[i] ^= [0x01, 0x10, 0x80, 0xFF, bytes[i], bytes[i] ^ b'.'][(i + file) % 6];
            survives(&bytes);
        }
    }
    let grown = peak_memory() - before;
    assert!(grown < 2048, "{grown} MiB");
}

/// Failures are printed, not stored beside the tests.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn arbitrary_programs_do_no_harm(
        opcodes in prop::collection::vec(
            prop::sample::select(&b"\x80\x85\x86\x87\x88\x89\x8a\x93\x94\x95.()]}0122tlduasebRNKUCXqhhhc"[..]), 0..300),
        golden in prop::sample::select(goldens()), at in any::<prop::sample::Index>(),
    ) {
        survives(&opcodes);
        let mut spliced = std::fs::read(golden).unwrap();
        let at = at.index(spliced.len());
        spliced.splice(at..at, opcodes);
        survives(&spliced);
    }

    #[test]
    fn many_changed_bytes_do_no_harm(
        golden in prop::sample::select(goldens()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = std::fs::read(golden).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&bytes);
    }
}

/// A set as a third party's serialiser writes it.
#[derive(Clone, Debug, Serialize)]
struct Plain {
    data: Vec<Vec<f64>>,
    labels: Vec<u32>,
    track_id: Vec<i64>,
}

fn plain(segments: usize) -> impl Strategy<Value = Plain> {
    let segment = prop::collection::vec(-1f64..1.0, 3);
    let n = 1..segments;
    n.prop_flat_map(move |n| {
        (
            prop::collection::vec(segment.clone(), n),
            prop::collection::vec(0u32..1000, n),
            prop::collection::vec(
                prop_oneof![0i64..4, any::<i64>().prop_filter("fits", |i| i64::abs_diff(*i, 0) < 1 << 62)],
                n,
            ),
        )
            .prop_map(|(data, labels, track_id)| Plain { data, labels, track_id })
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn reads_what_serde_pickle_writes(train in plain(40), test in plain(5), v2 in any::<bool>()) {
        let options = || if v2 { serde_pickle::SerOptions::new().proto_v2() } else { serde_pickle::SerOptions::new() };
        let mut bytes = serde_pickle::to_vec(&train, options()).unwrap();
        bytes.extend(serde_pickle::to_vec(&test, options()).unwrap());
        let raw = parse(&bytes).unwrap();
        for (set, plain) in [(&raw.train, &train), (&raw.test, &test)] {
            // every row is there with its own label, and rows share a track if and only if they share id and label
            let key = |i: usize| (plain.track_id[i], plain.labels[i]);
            let mut rows: Vec<usize> = (0..plain.data.len()).collect();
            rows.sort_by_key(|&i| rows_before(plain, i));
            for (row, &i) in rows.iter().enumerate() {
                let expected: Vec<f32> = plain.data[i].iter().map(|&x| x as f32).collect();
                prop_assert_eq!(&set.segments[row], &expected);
                prop_assert_eq!(set.labels[row], plain.labels[i]);
                if row > 0 {
                    prop_assert_eq!(set.tracks[row] == set.tracks[row - 1], key(i) == key(rows[row - 1]));
                }
            }
        }
    }
}

/// Where the track of row `i` first appears.
fn rows_before(plain: &Plain, i: usize) -> usize {
    let same = |j: &usize| (plain.track_id[*j], plain.labels[*j]) == (plain.track_id[i], plain.labels[i]);
    (0..=i).find(same).unwrap()
}

// Fragments of protocol 2, for files that no writer makes.

fn floats(xs: &[f64]) -> Vec<u8> {
    let mut out = b"](".to_vec();
    xs.iter().for_each(|x| [&b"G"[..], &x.to_be_bytes()].iter().for_each(|part| out.extend(*part)));
    out.push(b'e');
    out
}

fn ints(xs: &[i32]) -> Vec<u8> {
    let mut out = b"](".to_vec();
    xs.iter().for_each(|x| [&b"J"[..], &x.to_le_bytes()].iter().for_each(|part| out.extend(*part)));
    out.push(b'e');
    out
}

fn list(items: &[&[u8]]) -> Vec<u8> {
    [b"](", items.concat().as_slice(), b"e"].concat()
}

fn set(data: &[u8], labels: &[u8], ids: &[u8]) -> Vec<u8> {
    [b"\x80\x02}(U\x04data", data, b"U\x06labels", labels, b"X\x08\0\0\0track_id", ids, b"u."].concat()
}

/// One segment, label 0, track 0.
fn single(segment: &[u8]) -> Vec<u8> {
    set(&list(&[segment]), &ints(&[0]), &ints(&[0]))
}

fn good() -> Vec<u8> {
    single(&floats(&[0.25, -0.5]))
}

/// An array as numpy 1 writes it at protocol 3.
fn array(dtype: &str, n: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01K".to_vec();
    out.extend([n, 0x85]);
    out.extend(format!("cnumpy\ndtype\nU\x02{dtype}K\0K\x01").bytes());
    out.extend(b"\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89B");
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
    out.extend(b"tb");
    out
}

#[test]
fn the_fragments_make_a_good_file() {
    let short = single(&array("i2", 2, b"\0\x40\xff\xff"));
    let raw = parse(&[short.clone(), short.clone()].concat()).unwrap();
    assert_eq!(raw.scale_note, "samples are 16-bit integers (peak 16384): divided by 32,768");
    assert_eq!(raw.test.segments, [[0.5, -1.0 / 32_768.0]]);
    let said = refusal(&[good(), short].concat());
    assert!(
        said.ends_with("its train samples are floats, its test samples 16-bit integers; they must be alike"),
        "{said}"
    );
    let raw = parse(&[good(), good()].concat()).unwrap();
    assert_eq!(raw.train, RawSet { segments: vec![vec![0.25, -0.5]], labels: vec![0], tracks: vec![0] });
    assert_eq!((raw.test, raw.scale_note.contains("peak 0.5")), (raw.train, true));
}

#[test]
fn foreign_globals_are_named_and_never_called() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let command = format!("touch {}", trace.display());
    let hostile: [(&[u8], &str); 6] = [
        (b"cos\nsystem\n(S'COMMAND'\ntR.", "os.system"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"(S'COMMAND'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93VCOMMAND\n\x85R.", "posix.system"),
        (b"\x80\x02c__builtin__\neval\nU\x0a__import__\x85R.", "__builtin__.eval"),
        (b"cnumpy.core.multiarray\n\x1b[31mred\nfine\n.", "numpy.core.multiarray.\\u{1b}[31mred"),
    ];
    for (bytes, name) in hostile {
        // every byte as the Latin-1 character of its value, and back
        let text: String = bytes.iter().map(|&b| char::from(b)).collect();
        let bytes: Vec<u8> = text.replace("COMMAND", &command).chars().map(|c| c as u8).collect();
        let line = refusal(&bytes);
        let expected = format!(
            "asks for the global {name}; only numpy arrays and plain containers are read, nothing was executed"
        );
        assert!(line.contains(&expected), "{line}");
    }
    assert!(!trace.exists());
}

#[test]
fn wrong_content_is_named() {
    let ok = floats(&[0.25, -0.5]);
    let two = list(&[&ok, &ok]);
    let (zeros, one) = (ints(&[0, 0]), list(&[&ok]));
    let text = b"X\x05\0\0\0hello";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            set(&two, &ints(&[1, 2, 3]), &ints(&[1])),
            "train pickle: its lists differ in length: data 2, labels 3, track_id 1",
        ),
        (set(&list(&[]), &ints(&[]), &ints(&[])), "train pickle: holds no segments"),
        (b"\x80\x02]].".to_vec(), "train pickle: holds no dict with the keys data, labels, track_id"),
        (b"\x80\x02}U\x04data]s.".to_vec(), "train pickle: its dict has no `labels`; expected data, labels, track_id"),
        (set(&one, &ints(&[0]), text), "train pickle: its `track_id` is neither a list nor an array"),
        (set(&two, &ints(&[0, -1]), &zeros), "train pickle: labels[1] is -1; expected 0 to 999"),
        (set(&two, &ints(&[0, 1000]), &zeros), "train pickle: labels[1] is 1000; expected 0 to 999"),
        (set(&two, &floats(&[0.0, 1.5]), &zeros), "train pickle: labels[1] is 1.5; expected an integer"),
        (set(&two, &list(&[b"K\0", text]), &zeros), "train pickle: labels[1] is no integer"),
        (set(&two, &zeros, &list(&[b"K\0", b"N"])), "train pickle: track_id[1] is no integer"),
        (single(&floats(&[0.5])), "train pickle: data[0] has 1 samples; expected at least 2"),
        (
            set(&list(&[&ok, &floats(&[0.0; 3])]), &zeros, &zeros),
            "data[1] has 3 samples, data[0] has 2; they must be alike",
        ),
        (single(&floats(&[0.5, f64::NAN])), "train pickle: data[0] has a sample that is no finite number: NaN at 1"),
        (single(&floats(&[0.5, 1e300])), "train pickle: data[0] has a sample that is no finite number: inf at 1"),
        (single(&array("f4", 2, b"\0\0\0\0\0\0\x80\xff")), "data[0] has a sample that is no finite number: -inf at 1"),
        (single(text), "train pickle: data[0] is neither a list nor an array"),
        (single(b"K\x05"), "train pickle: data[0] is neither a list nor an array"),
        (single(&list(&[b"K\0", text])), "train pickle: data[0] holds what is no number"),
        (
            single(&array("c8", 2, &[0; 16])),
            "has an array of dtype c8; integers of 1 to 8 bytes and floats of 4 or 8 are read",
        ),
        (single(&array("f4", 3, &[0; 8])), "has an array of 3 numbers of 4 bytes in 8 bytes"),
        (
            [good(), single(&floats(&[0.0; 3]))].concat(),
            "train segments have 2 samples, test segments 3; they must be alike",
        ),
        ([good(), single(&floats(&[0.5]))].concat(), "test pickle: data[0] has 1 samples; expected at least 2"),
        (good(), "has only one pickle; expected train then test"),
        ([good(), good(), vec![0]].concat(), "has more data after its second pickle, from byte 146"),
        (b"hello".to_vec(), "refers to memo entry 101, which is not there"),
        (b"\x80\x06.".to_vec(), "is of pickle protocol 6; 0 to 5 are read (at byte 0)"),
        (b"\x80\x05\x97.".to_vec(), "has the pickle opcode 0x97, which is not read here"),
        (b"\x80\x02N\xfe.".to_vec(), "(at byte 3)"),
        (b"0".to_vec(), "takes from an empty stack (at byte 0)"),
        (b"N(\x85".to_vec(), "takes from an empty stack (at byte 2)"),
        (b"Nt".to_vec(), "takes up to a mark that is not there (at byte 1)"),
        (b"NNa".to_vec(), "appends to what is no list (at byte 2)"),
        (b"}(Nu".to_vec(), "sets keys in what is no dict, or keys without values (at byte 3)"),
        (b"N)R".to_vec(), "calls what is no global"),
        (b"NNb".to_vec(), "gives a state to what has none"),
        (
            b"c_codecs\nencode\nX\x02\0\0\0\xc4\x80U\x06latin1\x86R".to_vec(),
            "calls Encode with arguments that make no sense",
        ),
        (b"c_codecs\nencode\nU\x01aU\x05utf-8\x86R".to_vec(), "calls Encode with arguments that make no sense"),
        (b"\x8a\x0912345678\0".to_vec(), "has an integer of more than 64 bits"),
        (b"I12x\n".to_vec(), "has 12x, which is no number of a size read here"),
        (
            b"c__builtin__\nbytes\n)Rc__builtin__\nbytes\nN\x85R".to_vec(),
            "calls Bytes with arguments that make no sense",
        ),
        (b"S'a\\q'\n".to_vec(), "has a string that is not well formed"),
    ];
    for (bytes, expected) in cases {
        let line = refusal(&bytes);
        assert!(line.contains(expected), "{line}\nexpected: {expected}");
    }
}

#[test]
fn a_length_is_believed_when_its_bytes_have_come() {
    let before = peak_memory();
    for opcode in [0x8du8, 0x8e, 0x96] {
        for length in [u64::MAX, 1 << 62, 1 << 40] {
            let bytes = [&[opcode][..], &length.to_le_bytes(), b"abc"].concat();
            assert_eq!(refusal(&bytes), "songs.pkl: truncated at byte 12; get the file again");
        }
    }
    for opcode in *b"TBX\x8b" {
        let bytes = [&[opcode][..], &u32::MAX.to_le_bytes(), b"abc"].concat();
        assert_eq!(refusal(&bytes), "songs.pkl: truncated at byte 8; get the file again");
    }
    // arrays that claim shapes, memo entries out of reach
    let huge = b"cnumpy\ndtype\nU\x02f4K\0K\x01\x87R".to_vec();
    for shape in [&b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"[..], b"J\xff\xff\xff\x7f\x85", b"J\xff\xff\xff\x7fK\0\x86"]
    {
        let call = [b"cnumpy.core.numeric\n_frombuffer\n(C\0", huge.as_slice(), shape, b"C\x01CtR"].concat();
        assert!(refusal(&call).contains("has an array"), "{}", refusal(&call));
    }
    assert!(refusal(b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff").contains("refers to memo entry 4294967294"));
    let grown = peak_memory() - before;
    assert!(grown < 2048, "{grown} MiB");
}

#[test]
fn nesting_cycles_and_masses_are_bounded() {
    let deep = [&b"\x80\x02N"[..], &vec![0x85; 300_000], b"."].concat();
    assert!(refusal(&deep).contains("holds no dict"));
    let chain = [&b"\x80\x02]"[..], &b"]a".repeat(10), b"."].concat();
    assert!(refusal(&chain).contains("holds no dict"));
    assert!(refusal(b"]q\0h\0a.").contains("holds no dict"));
    let own = single(b"]q\0(h\0h\0e");
    assert!(refusal(&own).contains("data[0] holds what is no number"));
}

/// 32 MB of one thing, as long as a corpus of 400 segments: none of it takes more than 200 MB.
#[test]
fn masses_of_objects_are_refused_in_little_memory() {
    let programs: [(&[u8], &[u8]); 12] = [
        (b"", b"]"),
        (b"", b"("),
        (b"", b"N"),
        (b"N", b"\x85"),
        (b"N", b"\x94"),
        (b"", b"N\x85"),
        (b"", b"}"),
        (b"", b"}NNs"),
        (b"", b"U\x01a"),
        (b"](", b"N"),
        (b"]", b"(NNNNNNNNNNNNNNNe"),
        (b"}", b"(NNNNNNNNNNNNNNNNu"),
    ];
    for (before, code) in programs {
        let bytes = [&b"\x80\x04"[..], before, &code.repeat(32_000_000 / code.len())].concat();
        let memory = allocation_counter::measure(|| {
            let line = refusal(&bytes);
            assert!(line.contains("holds more objects than a corpus needs"), "{line}");
        });
        assert!(memory.bytes_max < 200_000_000, "{code:?}: {} bytes", memory.bytes_max);
    }
    // integers and floats in one list are samples, and no mass of objects
    let batch = [&b"("[..], &b"K\x01".repeat(1000), b"G\0\0\0\0\0\0\0\0e"].concat();
    let numbers = [&b"\x80\x04]"[..], &batch.repeat(6000), b"."].concat();
    assert!(refusal(&numbers).contains("holds no dict"));
}

#[test]
fn every_type_of_samples_is_of_one_loudness() {
    let of = |dtype: &str, low: &[u8], high: &[u8]| {
        let one = single(&array(dtype, 2, &[low, high].concat()));
        parse(&[one.clone(), one].concat()).unwrap_or_else(|error| panic!("{dtype}: {error}"))
    };
    // half of full scale below silence, and half of it above, as numpy's tobytes() gives them
    for (dtype, low, high, note) in [
        ("f4", &(-0.5f32).to_le_bytes()[..], &0.5f32.to_le_bytes()[..], "floats in -1..1"),
        ("f8", &(-0.5f64).to_le_bytes(), &0.5f64.to_le_bytes(), "floats in -1..1"),
        ("f4", &(-16_384f32).to_le_bytes(), &16_384f32.to_le_bytes(), "16-bit"),
        ("f8", &(-1_073_741_824f64).to_le_bytes(), &1_073_741_824f64.to_le_bytes(), "32-bit"),
        ("i1", &(-64i8).to_le_bytes(), &64i8.to_le_bytes(), "8-bit"),
        ("i2", &(-16_384i16).to_le_bytes(), &16_384i16.to_le_bytes(), "16-bit"),
        ("i4", &(-16_384i32).to_le_bytes(), &16_384i32.to_le_bytes(), "16-bit"),
        ("i4", &(-1_073_741_824i32).to_le_bytes(), &1_073_741_824i32.to_le_bytes(), "32-bit"),
        ("i8", &(-1_073_741_824i64).to_le_bytes(), &1_073_741_824i64.to_le_bytes(), "32-bit"),
        ("i8", &(-1i64 << 62).to_le_bytes(), &(1i64 << 62).to_le_bytes(), "64-bit"),
        ("u1", &64u8.to_le_bytes(), &192u8.to_le_bytes(), "unsigned 8-bit"),
        ("u2", &16_384u16.to_le_bytes(), &49_152u16.to_le_bytes(), "unsigned 16-bit"),
        ("u4", &(1u32 << 30).to_le_bytes(), &(3u32 << 30).to_le_bytes(), "unsigned 32-bit"),
    ] {
        let raw = of(dtype, low, high);
        assert!(raw.scale_note.contains(note), "{dtype}: {}", raw.scale_note);
        assert_eq!((raw.train.segments, raw.test.segments), (vec![vec![-0.5, 0.5]], vec![vec![-0.5, 0.5]]), "{dtype}");
    }
    let quiet = single(&array("i4", 2, &[100i32.to_le_bytes(), 3i32.to_le_bytes()].concat()));
    let said = refusal(&[quiet.clone(), quiet].concat());
    assert!(said.contains("integers of 32 or 64 bits with a peak of 100, which does not tell"), "{said}");
}

#[test]
fn one_array_may_be_entered_twice_but_not_blow_up() {
    let one = array("f4", 2, b"\0\0\0\x3f\0\0\0\xbf");
    let twice = set(&list(&[&one, b"q\x01", b"h\x01"]), &ints(&[0, 1]), &ints(&[0, 1]));
    let raw = parse(&[twice, good()].concat()).unwrap();
    assert_eq!(raw.train.segments, [[0.5, -0.5], [0.5, -0.5]]);

    let many = 2000;
    let long = [&array("u1", 200, &[1; 200])[..], b"q\x01", &b"h\x01".repeat(many - 1)].concat();
    let labels = ints(&vec![0; many]);
    let line = refusal(&set(&list(&[&long]), &labels, &labels));
    assert!(line.contains("repeats an array that is there too often"), "{line}");
}

#[test]
fn ids_that_restart_make_new_tracks_and_segments_of_a_track_stand_together() {
    let segments: Vec<Vec<u8>> = (0..6).map(|i| floats(&[f64::from(i) / 8.0, 0.0])).collect();
    let data = list(&segments.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let train = set(&data, &ints(&[4, 4, 5, 5, 4, 5]), &ints(&[1, 1, 1, 1, 0, 1]));
    let raw = parse(&[train, good()].concat()).unwrap();
    let first: Vec<f32> = raw.train.segments.iter().map(|s| s[0] * 8.0).collect();
    assert_eq!(first, [0.0, 1.0, 2.0, 3.0, 5.0, 4.0]);
    assert_eq!(raw.train.labels, [4, 4, 5, 5, 5, 4]);
    assert_eq!(raw.train.tracks, [0, 0, 1, 1, 1, 2]);
}

#[test]
fn pickles_are_told_by_their_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let is = |bytes: &[u8]| {
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        pickle::is_pickle(&path)
    };
    assert!(
        is(&golden("numpy1-p2-course.pkl"))
            && is(&golden("python2-p0-course.pkl"))
            && is(&golden("python2-p1-course.pkl"))
    );
    for other in
        [&b""[..], b"\x80", b"\x80\x06}", b"RIFF", b".snd", b"{\"data\": []}", b"(dear reader)", b"\x80\xff\x02"]
    {
        assert!(!is(other), "{other:x?}");
    }
    assert!(!pickle::is_pickle(folder.path()) && !pickle::is_pickle(&folder.path().join("nothing")));
    assert!(pickle::read(&folder.path().join("nothing")).unwrap_err().one_line().contains("cannot read"));
    assert!(pickle::read(folder.path()).unwrap_err().one_line().contains("cannot read"));
}

#[test]
fn segments_of_the_courses_length_stream() {
    const N: usize = genregrad::audio::SEGMENT_SAMPLES;
    let wave = |i: usize| -> Vec<f32> { (0..N).map(|j| ((i * N + j) as f32 * 0.37).sin()).collect() };
    // protocol 4: numpy 1's array with BINBYTES; `latin1`: the same by Python 3 at protocol 2
    let segment = |i: usize, latin1: bool| {
        let raw: Vec<u8> = wave(i).iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01M".to_vec();
        out.extend((N as u16).to_le_bytes());
        out.extend(b"\x85cnumpy\ndtype\nU\x02f4K\0K\x01\x87R(K\x03U\x01<NNNK\0K\0K\0tb\x89");
        let text: String = raw.iter().map(|&b| char::from(b)).collect();
        let content = if latin1 { text.as_bytes() } else { &raw };
        out.extend(if latin1 { &b"c_codecs\nencode\nX"[..] } else { b"B" });
        out.extend((content.len() as u32).to_le_bytes());
        out.extend(content);
        out.extend(if latin1 { &b"r\x00\x01\x00\x00U\x06latin1\x86R"[..] } else { b"r\x00\x01\x00\x00" });
        out.extend(b"tbr\x01\x01\x00\x00");
        out
    };
    let count = 60;
    for latin1 in [false, true] {
        let segments: Vec<Vec<u8>> = (0..count).map(|i| segment(i, latin1)).collect();
        let ids: Vec<i32> = (0..count as i32).map(|i| i / 15).collect();
        let train = set(&list(&segments.iter().map(Vec::as_slice).collect::<Vec<_>>()), &ints(&ids), &ints(&ids));
        let test = single(&segments[0]);
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = [train, test].concat();
        std::fs::write(file.path(), &bytes).unwrap();
        let start = std::time::Instant::now();
        let raw = pickle::read(file.path()).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        println!("latin1 {latin1}: {:.0} MB/s", bytes.len() as f64 / 1e6 / seconds);
        assert_eq!((raw.train.labels.len(), raw.train.tracks[59], raw.test.labels.len()), (60, 3, 1));
        for (i, read) in raw.train.segments.iter().enumerate() {
            assert_eq!(read, &wave(i));
        }
    }
}
