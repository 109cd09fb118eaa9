//! The screen and the text, from two documents of a broker under load that were taken a second apart.

use console::{Document, Overview};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::screen::Screen;
use super::text;

const ADDRESS: &str = "http://127.0.0.1:9191";

fn earlier() -> Document {
    serde_json::from_str(include_str!("testdata/earlier.json")).expect("a document")
}

fn later() -> Document {
    serde_json::from_str(include_str!("testdata/later.json")).expect("a document")
}

fn screen() -> Screen {
    let mut screen = Screen::new(ADDRESS);
    screen.update(Ok(earlier()));
    screen.update(Ok(later()));
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| screen.draw(frame)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    let lines = cells.chunks(usize::from(width));
    lines
        .map(|line| line.concat().trim_end().to_owned())
        .collect()
}

fn press(screen: &mut Screen, code: KeyCode) -> bool {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE))
}

#[track_caller]
fn same(shown: &[String], expected: &str) {
    let expected: Vec<&str> = expected.lines().collect();
    assert_eq!(shown, expected, "shown:\n{}\n", shown.join("\n"));
}

#[test]
fn a_small_terminal_shows_everything() {
    same(
        &drawn(&screen(), 80, 24),
        include_str!("testdata/80x24.txt"),
    );
}

#[test]
fn a_large_terminal_shows_more() {
    same(
        &drawn(&screen(), 140, 50),
        include_str!("testdata/140x50.txt"),
    );
}

#[test]
fn the_text_says_the_same() {
    let overview = Overview::between(&earlier(), &later()).expect("they follow each other");
    let text = text::render(&overview, ADDRESS);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    same(&lines, include_str!("testdata/once.txt"));
}

#[test]
fn no_size_is_too_small_to_draw() {
    for (width, height) in [(1, 1), (3, 40), (20, 5), (79, 23), (400, 3)] {
        let lines = drawn(&screen(), width, height);
        assert_eq!(lines.len(), usize::from(height));
        drawn(&Screen::new(ADDRESS), width, height);
    }
}

#[test]
fn keys_choose_pause_and_end() {
    let mut screen = screen();
    let stages = |screen: &Screen| drawn(screen, 80, 24).join("\n");
    assert!(stages(&screen).contains("device_write"));
    press(&mut screen, KeyCode::Down);
    assert!(!stages(&screen).contains("device_write"), "fetch has none");
    press(&mut screen, KeyCode::Up);
    assert!(stages(&screen).contains("device_write"));
    // Around the end, to whatever comes last.
    press(&mut screen, KeyCode::BackTab);
    press(&mut screen, KeyCode::Tab);
    assert!(stages(&screen).contains("device_write"));

    assert!(!press(&mut screen, KeyCode::Char('p')));
    assert!(stages(&screen).contains("PAUSED"));
    let mut next = later();
    next.uptime_seconds += 50.0;
    screen.update(Ok(next));
    assert!(
        stages(&screen).contains("up 1m 41s"),
        "still the old picture"
    );
    press(&mut screen, KeyCode::Char('p'));
    let mut next = later();
    next.uptime_seconds += 60.0;
    screen.update(Ok(next));
    assert!(stages(&screen).contains("up 2m 41s"));

    assert!(press(&mut screen, KeyCode::Char('q')));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(screen.press(interrupt));
}

#[test]
fn trouble_is_in_sight_and_the_picture_stays() {
    let mut screen = screen();
    screen.update(Err("connection refused\nmore advice".to_owned()));
    let shown = drawn(&screen, 80, 24).join("\n");
    assert!(shown.contains("connection refused") && !shown.contains("more advice"));
    assert!(shown.contains("produce acks=all"));

    // A shard that falls silent: no rates across it, and its name as soon as there are any.
    let silent = |uptime: f64| {
        let mut document = later();
        document.uptime_seconds += uptime;
        document.shards[1].up = false;
        document
    };
    screen.update(Ok(silent(1.0)));
    screen.update(Ok(silent(2.0)));
    let shown = drawn(&screen, 80, 24).join("\n");
    assert!(shown.contains("no answer from shard 1"), "{shown}");
    assert!(shown.contains("1 of 2 shards"));
}

#[test]
fn documents_that_do_not_follow_each_other_are_not_compared() {
    assert_eq!(Overview::between(&later(), &earlier()), None);
    assert_eq!(Overview::between(&later(), &later()), None);
    let mut other = later();
    other.shards[0].up = false;
    assert_eq!(Overview::between(&earlier(), &other), None);
}

/// The colour of a limit's bar, where the screen is wide enough to have one.
fn bar_colour(screen: &Screen, limit: &str) -> Color {
    let (width, height) = (140, 50);
    let lines = drawn(screen, width, height);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| screen.draw(frame)).expect("drawn");
    let y = lines
        .iter()
        .position(|line| line.contains(&format!("{limit} ")) && line.contains('█'));
    let y = u16::try_from(y.expect("a limit with a bar")).unwrap();
    let buffer = terminal.backend().buffer();
    let bars = (width / 2..width).filter(|x| buffer[(*x, y)].symbol() == "█");
    let colours: Vec<Color> = bars.map(|x| buffer[(x, y)].fg).collect();
    *colours.last().expect("a bar")
}

#[test]
fn only_what_is_short_is_alarming() {
    for (limit, family, colour) in [
        ("cache", "cache", Color::Cyan),
        ("tails", "tail", Color::Cyan),
        ("journal", "journal", Color::Red),
        ("requests", "request_budget", Color::Red),
    ] {
        let fill = |mut document: Document| {
            let value = |name: String, document: &Document| {
                let family = document.families.iter().find(|f| f.name == name);
                family.expect("a family").series[0].value.clone()
            };
            let full = value(format!("ringlog_{family}_capacity_bytes"), &document);
            let used = format!("ringlog_{family}_used_bytes");
            for family in document.families.iter_mut().filter(|f| f.name == used) {
                for series in &mut family.series {
                    series.value = full.clone();
                }
            }
            document
        };
        let mut screen = Screen::new(ADDRESS);
        screen.update(Ok(fill(earlier())));
        screen.update(Ok(fill(later())));
        assert_eq!(bar_colour(&screen, limit), colour, "{limit}");
    }
}

#[test]
fn words_are_explained_and_any_key_leads_back() {
    let mut screen = screen();
    let picture = drawn(&screen, 80, 24);
    assert!(!press(&mut screen, KeyCode::Char('?')));
    let words = drawn(&screen, 80, 24).join("\n");
    let overview = Overview::between(&earlier(), &later()).expect("they follow each other");
    let stages = overview.apis.iter().flat_map(|api| &api.stages);
    let stages = stages.map(|stage| stage.name.clone());
    let limits = overview.occupancy.iter().map(|limit| limit.name.to_owned());
    for word in stages.chain(limits) {
        assert!(words.contains(&word), "{word} is not explained:\n{words}");
    }
    assert!(words.contains("any key: back"));
    assert!(
        !press(&mut screen, KeyCode::Char('q')),
        "it only leads back"
    );
    assert_eq!(drawn(&screen, 80, 24), picture);
    press(&mut screen, KeyCode::Char('?'));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(screen.press(interrupt), "Ctrl-C ends it everywhere");
}

#[test]
fn long_lines_are_continued_and_long_names_keep_both_ends() {
    let sentence =
        "12 connections  0/s new  1.06k requests/s  33/s refused  1.20k/s NOT_LEADER_OR_FOLLOWER";
    let lines = text::wrapped(sentence, 72);
    assert_eq!(
        lines,
        [
            "12 connections  0/s new  1.06k requests/s  33/s refused",
            "1.20k/s NOT_LEADER_OR_FOLLOWER"
        ]
    );
    assert_eq!(text::wrapped("a  b", 80), ["a  b"]);
    for (name, width, expected) in [
        ("orders", 6, "orders"),
        ("orders", 5, "or…rs"),
        ("payments.eu-west-1", 8, "paym…t-1"),
        ("orders", 1, "…"),
        ("orders", 0, ""),
    ] {
        assert_eq!(text::shortened(name, width), expected);
        assert!(text::shortened(name, width).chars().count() <= width);
    }
}

#[test]
fn nothing_is_cut_at_80_columns() {
    let mut overview = Overview::between(&earlier(), &later()).expect("they follow each other");
    overview.connections.refused = Some(12_345.0);
    overview.errors = vec![("NOT_LEADER_OR_FOLLOWER".to_owned(), 1234.0)];
    overview.health.longest_stall = Some(12_345_678);
    overview.health.mailbox_depth = Some(123_456.0);
    for (label, sentence) in text::summary(&overview) {
        let lines = text::wrapped(&sentence, 72);
        assert_eq!(lines.join("  "), sentence, "{label}");
        for line in lines {
            assert!(line.chars().count() <= 72, "{label}: {line}");
        }
    }
}
