//! The screen and the text, from two documents of a broker under load that were taken a second apart.

use console::{Document, Overview};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

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
