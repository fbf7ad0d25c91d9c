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
use genregrad::train::fit::{Observer, Options};
use genregrad::train::metrics::Epoch;
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
                "href" if name == "image" => assert!(value.starts_with("data:image/png;base64,")),
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
    for svg in all(document, "svg") {
        assert_eq!(svg.attribute("role"), Some("img"));
        assert!(svg.children().any(|node| node.tag_name().name() == "title"));
    }
    for picture in spectrograms(document) {
        // cells and colour bar
        let images: Vec<Node> = picture.children().filter(|node| node.tag_name().name() == "image").collect();
        let size = |image: &Node| {
            let png = image.attribute("href").unwrap().strip_prefix("data:image/png;base64,").unwrap();
            let png = Cursor::new(STANDARD.decode(png).unwrap());
            png::Decoder::new(png).read_info().unwrap().info().size()
        };
        assert_eq!((images.len(), size(&images[0]), size(&images[1]).0), (2, (80, 80), 1));
        // the words have the page's colour, whichever that is
        assert!(picture.descendants().all(|node| !node.has_attribute("fill") && !node.has_attribute("stroke")));
    }
    // one stop of the tab key per list, and one player
    for list in document.descendants().filter(|node| node.attribute("class") == Some("figures")) {
        let radios: Vec<Node> = list.descendants().filter(|node| node.tag_name().name() == "input").collect();
        let names: HashSet<_> = radios.iter().map(|radio| radio.attribute("name").unwrap()).collect();
        assert!(
            names.len() <= 1 && radios.iter().filter(|radio| radio.has_attribute("checked")).count() == names.len()
        );
        let labels = list.descendants().filter_map(|node| node.attribute("for")).collect::<Vec<_>>();
        assert_eq!(labels, radios.iter().map(|radio| radio.attribute("id").unwrap()).collect::<Vec<_>>());
    }
    assert!(document.descendants().all(|node| !node.has_attribute("tabindex")));
}

/// The pictures of segments.
fn spectrograms<'a>(document: &'a Document<'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    let is_one = |svg: &Node| {
        let title = svg.children().find(|node| node.tag_name().name() == "title");
        title.and_then(|title| title.text()).is_some_and(|title| title.starts_with("Spectrogram ("))
    };
    all(document, "svg").filter(is_one)
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
    assert_eq!(spectrograms(&document).count(), expected.len());
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
    assert_eq!(spectrograms(&document).count(), 4);
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
    assert!(all(&document, "audio").next().is_none() && page.contains("class=\"heat "));
    // nobody's folders are passed on
    assert!(page.contains("no sound: ") && !page.contains(&folder.path().display().to_string()));
    assert!(html::page(&[], &[]).is_err());
}

/// What Chromium makes of `page`, opened in a window of 1400 pixels: its body's attributes after its scripts, and its log.
fn browsed(page: &str, flags: &[&str]) -> Option<(String, String)> {
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        std::process::Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let Some(browser) = browser else {
        assert!(std::env::var_os("GENREGRAD_REQUIRE_BROWSER").is_none(), "no Chromium");
        println!("skipped: no Chromium");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    std::fs::write(&path, page).unwrap();
    let output = std::process::Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--timeout=60000", "--virtual-time-budget=60000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--window-size=1400,1000", "--dump-dom"])
        .args(flags)
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap();
    let (page, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    let body = page.split("<body").nth(1).unwrap_or_default().split('>').next().unwrap_or_default();
    Some((body.to_string(), log))
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
        document.querySelectorAll('details').forEach((details) => { details.open = true; });
        const lists = [...document.querySelectorAll('.figures')];
        const shown = (list) => [...list.querySelectorAll('audio')].filter((player) => player.checkVisibility()).length;
        const first = lists.every((list) => shown(list) === 1);
        lists.forEach((list) => [...list.querySelectorAll('label')].pop().click());
        const last = lists.every((list) => shown(list) === 1 && [...list.querySelectorAll('audio')].pop().checkVisibility());
        document.body.dataset.heard = `${results.filter(Boolean).length} of ${results.length}, ${first && last}`;
    })();
</script></body>";

#[test]
fn a_browser_plays_every_segment() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let page = html::page(&study(&run), &html::listening(std::slice::from_ref(&run))).unwrap();
    let players = page.matches("<audio ").count();
    assert!(players > 0);
    let Some((body, log)) = browsed(&page.replace("</body>", LISTENER), &[]) else { return };
    assert_eq!(body, format!(" data-heard=\"{players} of {players}, true\""), "{log}");
    assert!(!log.contains("CONSOLE"), "{log}");
}

/// Opens PAGE in frames of a phone's and of a screen's width, and says on the outer page what does not fit, and what AXE
/// (the source of axe-core, or nothing) finds.
const MEASURER: &str = "<!DOCTYPE html><html><head><meta name='color-scheme' content='light dark'></head><body><script>
    const page = PAGE, axe = AXE, wrong = [];
    const framed = (width) => new Promise((done) => {
        const frame = document.createElement('iframe');
        frame.style = `width:${width}px;height:900px;border:0`;
        frame.onload = () => done(frame);
        frame.srcdoc = page;
        document.body.append(frame);
    });
    (async () => {
        let measured = 0, dark = false;
        for (const width of [390, 1280]) {
            const frame = await framed(width), root = frame.contentDocument, view = frame.contentWindow;
            root.querySelectorAll('details').forEach((details) => { details.open = true; });
            dark = view.matchMedia('(prefers-color-scheme: dark)').matches;
            if (view.innerWidth !== width) wrong.push(`${view.innerWidth} px`);
            if (root.documentElement.scrollWidth > width) wrong.push(`${width}: the page is ${root.documentElement.scrollWidth} px wide`);
            for (const part of root.querySelectorAll('th, td, caption, svg, pre, figure, p, summary')) {
                if (!part.checkVisibility() || part.closest('thead')) continue;
                const range = root.createRange();
                range.selectNodeContents(part);
                for (const box of [part.getBoundingClientRect(), range.getBoundingClientRect()]) {
                    measured += 1;
                    if (box.width > 0 && (box.left < 0 || box.right > width + 0.5)) {
                        wrong.push(`${width}: <${part.tagName}> ${part.textContent.trim().slice(0, 30)} ends at ${box.right}`);
                    }
                    if (part.matches('td.number') && box.width === 0) wrong.push(`${width}: an empty number`);
                }
            }
            if (axe) {
                view.eval(axe);
                const { violations } = await view.axe.run(root);
                for (const { id, nodes } of violations) wrong.push(`${width}: axe: ${id} (${nodes.length}) ${nodes[0].html.slice(0, 120)} ${nodes[0].failureSummary}`);
            }
            frame.remove();
        }
        document.body.dataset.wrong = wrong.slice(0, 20).join(' | ') || 'nothing';
        document.body.dataset.dark = dark;
        document.body.dataset.measured = measured > 100;
    })().catch((error) => { document.body.dataset.wrong = error.stack; });
</script></body></html>";

/// Asserts that `page` fits a phone and a screen, light and dark. `GENREGRAD_AXE` is the path of axe-core's axe.min.js.
fn assert_fits(page: &str) {
    let axe = match std::env::var_os("GENREGRAD_AXE") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => {
            assert!(std::env::var_os("GENREGRAD_REQUIRE_BROWSER").is_none(), "GENREGRAD_AXE names no axe.min.js");
            println!("axe-core skipped: GENREGRAD_AXE is not set");
            String::new()
        }
    };
    let script = |text: &str| serde_json::to_string(text).unwrap().replace("</", "<\\/");
    let outer = MEASURER.replacen("AXE", &script(&axe), 1).replacen("PAGE", &script(page), 1);
    for (flags, dark) in [(&[][..], false), (&["--force-dark-mode"][..], true)] {
        let Some((body, log)) = browsed(&outer, flags) else { return };
        let expected = format!(" data-wrong=\"nothing\" data-dark=\"{dark}\" data-measured=\"true\"");
        assert_eq!(body, expected, "{}", &log[..log.len().min(2000)]);
    }
}

#[test]
fn a_study_s_page_fits_a_phone_and_a_screen() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    // two tables with runs of both nets, as a study has them
    let mut deep = run.clone();
    (deep.results.model, deep.config.model) = (Architecture::Deep, Architecture::Deep);
    deep.folder = folder.path().join("deep");
    let section = |title: &str| Section {
        title: title.to_string(),
        runs: vec![run.clone(), deep.clone()],
        baselines: Vec::new(),
    };
    let sections = [section("Replication"), section("Improvements: CQT, EXP, and both")];
    let heard = html::listening(std::slice::from_ref(&run)).remove(0);
    let page = html::page(&sections, &[Listening { run: 0, ..heard.clone() }, Listening { run: 1, ..heard }]).unwrap();
    assert_sound(&parse(&page));
    assert_fits(&page);
}

/// Forty genres and names without an end: their numbers are cards on any screen.
#[test]
fn many_genres_and_long_names_fit() {
    let (mut run, _) = run(["a", "b", "c"], ["x", "y", "z"]);
    let classes: Vec<String> = (1..=40).map(|k| format!("progressive_{k}_{}", "metal".repeat(k % 9))).collect();
    run.results.confusion =
        (0..40).map(|k| (0..40).map(|j| if j == k { 70 } else { (j + k) as u32 % 3 }).collect()).collect();
    run.results.data.classes = classes;
    run.results.data.name = "a_very_long_name_of_a_folder_of_tracks_without_a_single_space".to_string();
    run.epochs = (1..=200)
        .map(|epoch| Epoch { epoch, learning_rate: 5e-5, loss: 123_456.78, train_accuracy: 50.0, test_accuracy: 66.67 })
        .collect();
    let page = html::page(&study(&run), &[]).unwrap();
    assert_sound(&parse(&page));
    assert_fits(&page);
}
