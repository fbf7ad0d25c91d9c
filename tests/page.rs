//! The page that is read and listened to, as a parser sees it: well-formed, self-contained, and safe with any name.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use genregrad::audio::SEGMENT_SAMPLES;
use genregrad::data::cache::Cache;
use genregrad::data::sound::{self, Sound};
use genregrad::device::Device;
use genregrad::experiments;
use genregrad::files::Lock;
use genregrad::models::Architecture;
use genregrad::report::html::{self, Listening};
use genregrad::report::{self, Section, examples};
use genregrad::train::config::{Config, Data, Preset};
use genregrad::train::evaluate::{Accuracies, TrackPrediction};
use genregrad::train::fit::{Epoch, Observer, Options};
use genregrad::train::results::{self, DataSummary, Results, Run, Saves, SegmentPrediction};
use roxmltree::{Document, Node, ParsingOptions};

/// Three tracks of three classes. `a`: three weak votes for 0 and one strong for 1. `b`: wrong and sure of it. `c`: right.
fn run(names: [&str; 3], classes: [&str; 3]) -> (Run, Vec<SegmentPrediction>) {
    let verdict = |k: usize, label, max, maj| TrackPrediction {
        track: names[k].to_string(),
        label,
        max,
        max_probabilities: max,
        maj,
    };
    let segment = |k: usize, segment, label, logits: [f32; 3]| SegmentPrediction {
        track: names[k].to_string(),
        segment,
        label,
        logits: logits.to_vec(),
    };
    let mut segments: Vec<_> = (0..3).map(|number| segment(0, number, 0, [1.0, 0.0, 0.0])).collect();
    segments.push(segment(0, 3, 0, [0.0, 12.0, 0.0]));
    segments.push(segment(1, 0, 1, [0.0, 0.0, 4.0]));
    segments.push(segment(2, 0, 2, [0.0, 0.0, 2.0]));
    let results = Results {
        model: Architecture::Deep,
        preset: Preset::Report,
        seed: 1,
        epochs: 1,
        steps: 1,
        parameters: 7,
        data: DataSummary {
            name: classes[0].to_string(),
            synthetic: false,
            classes: classes.map(str::to_owned).to_vec(),
            train_tracks: 1,
            test_tracks: 3,
            train_segments: 1,
            train_deformed: 0,
            test_segments: 6,
            spectrogram: [80, 80],
        },
        accuracies: Accuracies { raw: 66.67, max: 33.33, max_probabilities: 33.33, maj: 66.67 },
        confusion: vec![vec![0, 1, 0], vec![0, 0, 1], vec![0, 0, 1]],
        tracks: vec![verdict(0, 0, 1, 0), verdict(1, 1, 2, 2), verdict(2, 2, 2, 2)],
        device: format!("CPU {}", classes[1]),
        seconds: 1.0,
    };
    let epoch = Epoch { epoch: 1, learning_rate: 5e-5, loss: 2.0, train_accuracy: 50.0, test_accuracy: 66.67 };
    let config = Config::preset(Preset::Report, Architecture::Deep);
    let run = Run { folder: "runs/train-1".into(), config, results, epochs: vec![epoch], earlier: false };
    (run, segments)
}

#[test]
fn the_tracks_worth_a_look_by_hand() {
    let (run, segments) = run(["a", "b", "c"], ["x", "y", "z"]);
    let examples = examples::of(&run, &segments).unwrap();
    // the mean confidence in what max names: b e^4 / (e^4 + 2), c e^2 / (e^2 + 2), a (1 + 3 / (e + 2)) / 4
    let confidence: Vec<f64> = examples.iter().map(|example| example.confidence(example.verdict.max)).collect();
    let e = 1f64.exp();
    for (got, expected) in confidence.iter().zip([
        e.powi(4) / (e.powi(4) + 2.0),
        e.powi(2) / (e.powi(2) + 2.0),
        (e.powi(12) / (e.powi(12) + 2.0) + 3.0 / (e + 2.0)) / 4.0,
    ]) {
        assert!((got - expected).abs() < 1e-12, "{confidence:?}");
    }
    let names = |picked: Vec<&examples::Example>| -> Vec<String> {
        picked.into_iter().map(|example| example.verdict.track.clone()).collect()
    };
    assert_eq!(names(examples.iter().collect()), ["b", "c", "a"]);
    assert_eq!(names(examples::disputed(&examples)), ["a"]);
    assert_eq!(names(examples::wrong(&examples)), ["b"]);
    let a = &examples[2];
    assert_eq!((a.votes(0), a.votes(1), a.segments[3].predicted, a.segments[3].number), (3, 1, 1, 3));
}

#[test]
fn results_and_segments_that_do_not_belong_together_are_refused() {
    let (good, segments) = run(["a", "b", "c"], ["x", "y", "z"]);
    let refused = |run: &Run, segments: &[SegmentPrediction], track: &str| {
        let line = examples::of(run, segments).unwrap_err().one_line();
        assert!(line.contains(&format!("disagree on track {track}; run evaluate or train again")), "{line}");
    };
    refused(&good, &segments[..5], "c");
    refused(&good, &[&segments[..], &segments[..1]].concat(), "a");
    let mut other = segments.clone();
    other[4].label = 2;
    refused(&good, &other, "b");
    let mut short = segments.clone();
    short[5].logits.pop();
    refused(&good, &short, "c");
    let mut beyond = good;
    beyond.results.tracks[1].maj = 3;
    refused(&beyond, &segments, "b");
}

/// A study of one table and one run.
fn study(run: &Run) -> Vec<Section> {
    vec![Section { title: "Replication <b>".to_string(), runs: vec![run.clone()], baselines: Vec::new() }]
}

fn parse(page: &str) -> Document<'_> {
    Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() }).unwrap()
}

fn all<'a>(document: &'a Document<'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.tag_name().name() == name)
}

/// What a browser, a screen reader and a cautious person expect of any of our pages.
fn assert_sound(document: &Document) {
    assert_eq!(document.root_element().attribute("lang"), Some("en"));
    assert_eq!((all(document, "h1").count(), all(document, "main").count()), (1, 1));
    assert_eq!(all(document, "script").count() + all(document, "iframe").count() + all(document, "object").count(), 0);
    let (mut ids, mut level) = (HashSet::new(), 0);
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        if let Some(next) = name.strip_prefix('h').and_then(|level| level.parse::<u32>().ok()) {
            assert!(next <= level + 1, "a heading of level {next} after {level}");
            level = next;
        }
        for attribute in node.attributes() {
            let (key, value) = (attribute.name(), attribute.value());
            assert!(!key.starts_with("on"), "<{name} {key}>");
            match key {
                "id" => assert!(ids.insert(value), "two of #{value}"),
                "src" => assert!(value.starts_with("data:"), "<{name} src={value}>"),
                "href" => assert!(value.starts_with('#') || value == "data:,", "<{name} href={value}>"),
                _ => {}
            }
        }
    }
    for link in all(document, "a").chain(document.descendants().filter(|node| node.has_attribute("aria-labelledby"))) {
        let target = link.attribute("aria-labelledby").or(link.attribute("href")).unwrap().trim_start_matches('#');
        assert!(ids.contains(target), "nothing is called {target}");
    }
    let style: String = all(document, "style").filter_map(|node| node.text()).collect();
    assert!(!style.contains("url(") && !style.contains("@import"));
    assert!(style.contains("prefers-color-scheme: dark") && style.contains("@media print"));
    for image in all(document, "img") {
        assert!(image.attribute("alt").is_some_and(|alt| alt.starts_with("Spectrogram (")));
        let png =
            STANDARD.decode(image.attribute("src").unwrap().strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let info = png::Decoder::new(Cursor::new(png)).read_info().unwrap().info().size();
        let shown = ["width", "height"].map(|side| image.attribute(side).unwrap().parse::<u32>().unwrap());
        assert_eq!(shown, [info.0, info.1]);
    }
    for svg in all(document, "svg") {
        assert_eq!(svg.attribute("role"), Some("img"));
        assert!(svg.children().any(|node| node.tag_name().name() == "title"));
    }
    for scrolled in
        document.descendants().filter(|node| node.attribute("class").is_some_and(|c| c.starts_with("scroll")))
    {
        assert_eq!(scrolled.attribute("tabindex"), Some("0"));
        assert!(scrolled.attribute("aria-label").is_some_and(|label| !label.is_empty()));
    }
}

/// The samples of every player, in order.
fn players(document: &Document) -> Vec<Vec<i16>> {
    let player = |node: Node| {
        assert!(node.has_attribute("controls") && node.attribute("aria-label").is_some());
        let wav = node.attribute("src").unwrap().strip_prefix("data:audio/wav;base64,").unwrap();
        let reader = hound::WavReader::new(Cursor::new(STANDARD.decode(wav).unwrap())).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, 22_050, 16));
        reader.into_samples().map(|sample| sample.unwrap()).collect()
    };
    all(document, "audio").map(player).collect()
}

struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: u32, _: usize, _: usize) {}

    fn epoch(&mut self, _: &[Epoch]) -> genregrad::error::Result<()> {
        Ok(())
    }
}

/// A net that has seen ten tracks once, tested on ten others.
fn trained(folder: &std::path::Path) -> Run {
    let mut config = Config { epochs: 1, ..Config::preset(Preset::Report, Architecture::Shallow) };
    config.data = Data { synthetic_tracks: 2, segments: 2, ..Data::default() };
    let loaded = experiments::load(&config.data, &Cache::none(), &|_, _| {}).unwrap();
    let device = (&Device::Cpu, "CPU");
    let (lock, how) = (Lock::take(folder).unwrap().unwrap(), (&Options::default(), &Saves::default()));
    experiments::train(lock, &config, &loaded.dataset, device, how, &mut Silent).unwrap()
}

#[test]
fn a_study_s_page_plays_the_segments_that_were_tested_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    report::write(folder.path(), &study(&run)).unwrap();
    let text = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    let document = parse(&text);
    assert_sound(&document);
    assert!(text.contains("synthetic corpus: not comparable with the published numbers"));
    assert!(
        !text.contains("http://")
            || text.matches("http://").count() == text.matches("http://www.w3.org/2000/svg").count()
    );

    let examples = examples::of(&run, &results::segments(&run).unwrap()).unwrap();
    let mut shown: Vec<_> = examples::disputed(&examples).into_iter().take(4).collect();
    let others = examples::wrong(&examples).into_iter().filter(|example| !shown.contains(example));
    let others: Vec<_> = others.take(4).collect();
    shown.extend(others);
    assert!(!shown.is_empty(), "a net that has seen ten tracks once is wrong somewhere");
    let sound = Sound::open(&run.config.data.source(), &run.config.data.settings()).unwrap();
    let expected: Vec<Vec<i16>> = shown
        .iter()
        .flat_map(|example| sound.segments(&example.verdict.track).unwrap())
        .map(|segment| segment.samples.unwrap().iter().map(|x| (x * 32_768.0).round() as i16).collect())
        .collect();
    let players = players(&document);
    assert!(players.iter().all(|samples| samples.len() == SEGMENT_SAMPLES));
    assert!(players == expected, "other sound than that of the segments");
    assert_eq!(all(&document, "img").count(), expected.len());
    // every segment of every track has a confidence for every class
    let shares =
        document.descendants().filter(|node| node.attribute("class").is_some_and(|c| c.contains("share"))).count();
    assert_eq!(shares, 10 * expected.len());
}

#[test]
fn names_of_any_kind_are_shown_as_they_are() {
    let evil = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "{{ title }}{% raw %}&amp;' \u{1}]]>"];
    let (run, segments) = run(["</h4><b>a", "b\" onload=\"x", "c"], evil);
    let examples = examples::of(&run, &segments).unwrap();
    let spectrogram = |k: usize| (0..6_400).map(|i| ((i * k) as f32 / 99.0).sin()).collect();
    let segment = |k: usize| sound::Segment {
        start: (k > 0).then_some(1.25),
        samples: (k != 1).then(|| vec![0.25; SEGMENT_SAMPLES]),
        spectrogram: spectrogram(k),
    };
    let heard = vec![("</h4><b>a".to_string(), (0..4).map(segment).collect())];
    let listening =
        Listening { examples, segments: heard, notes: vec!["<i>moved".to_string()], ..Listening::default() };
    let page = html::page(&study(&run), &[listening]).unwrap();
    let document = parse(&page);
    assert_sound(&document);
    assert_eq!(all(&document, "img").count(), 4);
    assert_eq!(players(&document), vec![vec![8_192; SEGMENT_SAMPLES]; 3]);
    let words: String = document.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect();
    for name in ["</h4><b>a: <script>alert(1)</script>", "b\" onload=\"x: \"><img src=x", "{{ title }}{% raw %}&amp;'"]
    {
        assert!(words.contains(name), "{name}");
    }
    assert!(words.contains("<i>moved"));
    assert!(all(&document, "b").next().is_none() && all(&document, "i").next().is_none());
}

#[test]
fn what_cannot_be_had_is_told() {
    let (mut run, _) = run(["a", "b", "c"], ["x", "y", "z"]);
    let folder = tempfile::tempdir().unwrap();
    run.folder = folder.path().to_owned();
    let listening = html::listening(std::slice::from_ref(&run));
    assert!(listening[0].notes[0].starts_with("no segments to show: "), "{:?}", listening[0].notes);
    let page = html::page(&study(&run), &listening).unwrap();
    assert_sound(&parse(&page));
    assert!(page.contains("no segments to show: "));

    // a run whose tracks are gone has its verdicts still
    let trained = trained(folder.path());
    let mut moved = trained.clone();
    moved.config.data.path = Some(folder.path().join("moved"));
    let listening = html::listening(std::slice::from_ref(&moved));
    assert!(listening[0].notes[0].starts_with("no sound: ") && listening[0].segments.is_empty());
    let page = html::page(&study(&moved), &listening).unwrap();
    let document = parse(&page);
    assert_sound(&document);
    assert!(all(&document, "audio").next().is_none() && page.contains("class=\"heat\""));
    // nobody's folders are passed on
    assert!(page.contains("no sound: ") && !page.contains(&folder.path().display().to_string()));
    assert!(html::page(&[], &[]).is_err());
}

/// Loads every player and says on the page what came of it.
const LISTENER: &str = "<script>
    addEventListener('error', (event) => { document.body.dataset.error = event.message; });
    (async () => {
        const loaded = (player) => new Promise((done) => {
            player.onloadedmetadata = () => done(Math.abs(player.duration - 20462 / 22050) < 0.001);
            player.onerror = () => done(false);
            player.preload = 'metadata';
        });
        const results = [];
        for (const player of document.querySelectorAll('audio')) results.push(await loaded(player));
        const drawn = [...document.images].filter((image) => image.complete && image.naturalWidth > 0).length;
        document.body.dataset.heard = `${results.filter(Boolean).length} of ${results.length}, ${drawn} drawn`;
    })();
</script></body>";

#[test]
fn a_browser_plays_every_segment() {
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        std::process::Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let Some(browser) = browser else {
        assert!(std::env::var_os("GENREGRAD_REQUIRE_BROWSER").is_none(), "no Chromium");
        println!("skipped: no Chromium");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let page = html::page(&study(&run), &html::listening(std::slice::from_ref(&run))).unwrap();
    let players = page.matches("<audio ").count();
    assert!(players > 0);
    let path = folder.path().join("page.html");
    std::fs::write(&path, page.replace("</body>", LISTENER)).unwrap();
    let output = std::process::Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--timeout=20000", "--virtual-time-budget=20000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap();
    let (page, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let body = page.split("<body").nth(1).unwrap_or_default().split('>').next().unwrap_or_default();
    assert_eq!(body, format!(" data-heard=\"{players} of {players}, {players} drawn\""), "{log}");
    assert!(!log.contains("CONSOLE"), "{log}");
}
