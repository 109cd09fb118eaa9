//! The live screen.
//!
//! One loop: take what the feed has, take a key, draw. The terminal is put back as it was on every way out: the end,
//! errors, signals and, through the hook that `ratatui` sets, panics. Colours are few and of the terminal's own palette,
//! which suits its background; selection and headings use attributes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use console::overview::Api;
use console::{Document, Overview};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::CommandError;
use super::brokers::{self, Watched};
use super::feed;
use super::text;
use super::units::{bytes, percent};
use super::words::WORDS;
use crate::commands::metrics_source::Source;

/// How long a key is waited for before the feed is looked at again.
const KEY_PATIENCE: Duration = Duration::from_millis(50);

/// Lines of the smallest screen that shows everything: title, summary, five lines of APIs, stages, keys.
const HEIGHT_MIN: u16 = 24;

/// Lines of the summary if none of them is too long.
const SUMMARY_LINES: u16 = 6;

/// APIs on the smallest screen.
const API_ROWS_MIN: u16 = 4;

/// Heading and nine stages.
const STAGE_LINES: u16 = 10;

/// From this width on, topics have all their columns.
const WIDE_TOPICS: u16 = 46;

const HEADING: Style = Style::new()
    .add_modifier(Modifier::BOLD)
    .add_modifier(Modifier::UNDERLINED);
const LABEL: Style = Style::new().add_modifier(Modifier::BOLD);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
const BAR: Style = Style::new().fg(Color::Cyan);
const FULL: Style = Style::new().fg(Color::Red);
const HELP: Style = Style::new().add_modifier(Modifier::DIM);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Above this share of a limit, its bar says so.
const NEARLY_FULL: f64 = 0.9;

/// What is full after some time, and should be.
const FILLED: [&str; 2] = ["tails", "cache"];

/// Columns of the names of the summary's lines.
const LABEL_COLUMNS: u16 = 8;

/// Shows a broker until the user has seen enough.
pub fn run(source: Source, interval: Duration) -> Result<(), CommandError> {
    // A wrong address is better told on a terminal that is still itself.
    let first = source.fetch()?;
    let ended = ending()?;
    let mut screen = Screen::new(source.address());
    screen.update(Ok(first));
    let documents = feed::watch(source, interval);
    let shown = ratatui::try_init()
        .map_err(terminal_error)
        .and_then(|mut terminal| show(&mut terminal, &mut screen, &documents, &ended));
    ratatui::try_restore().map_err(terminal_error)?;
    shown
}

/// Shows several brokers, a row for each, until the user has seen enough.
pub fn run_each(sources: Vec<Source>, interval: Duration) -> Result<(), CommandError> {
    let ended = ending()?;
    let mut watched: Vec<Watched> = sources
        .iter()
        .map(|it| Watched::new(it.address()))
        .collect();
    let feeds = sources
        .into_iter()
        .map(|source| feed::watch(source, interval));
    let feeds: Vec<flume::Receiver<Result<Document, String>>> = feeds.collect();
    let mut terminal = ratatui::try_init().map_err(terminal_error)?;
    let shown = show_each(&mut terminal, &mut watched, &feeds, &ended);
    ratatui::try_restore().map_err(terminal_error)?;
    shown
}

fn show_each(
    terminal: &mut DefaultTerminal,
    watched: &mut [Watched],
    feeds: &[flume::Receiver<Result<Document, String>>],
    ended: &AtomicBool,
) -> Result<(), CommandError> {
    while !ended.load(Ordering::Relaxed) {
        for (broker, feed) in watched.iter_mut().zip(feeds) {
            for document in feed.try_iter() {
                broker.update(document);
            }
        }
        let text = format!("{}\nq quit", brokers::render(watched));
        let drawn = terminal.draw(|frame| {
            let paragraph = Paragraph::new(text).wrap(Wrap { trim: false });
            frame.render_widget(paragraph, frame.area());
        });
        drawn.map_err(terminal_error)?;
        if event::poll(KEY_PATIENCE).map_err(terminal_error)?
            && let Event::Key(key) = event::read().map_err(terminal_error)?
            && key.kind != KeyEventKind::Release
            && is_end(key)
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a key ends the show.
fn is_end(key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        KeyCode::Char('q') | KeyCode::Esc => true,
        _ => false,
    }
}

/// What signals set.
fn ending() -> Result<Arc<AtomicBool>, CommandError> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, ended.clone())
            .map_err(|error| CommandError::io("signals", error))?;
    }
    Ok(ended)
}

fn terminal_error(error: std::io::Error) -> CommandError {
    CommandError::io("the terminal", error)
}

fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    documents: &flume::Receiver<Result<Document, String>>,
    ended: &AtomicBool,
) -> Result<(), CommandError> {
    let mut changed = true;
    while !ended.load(Ordering::Relaxed) {
        for document in documents.try_iter() {
            screen.update(document);
            changed = true;
        }
        if changed {
            let drawn = terminal.draw(|frame| screen.draw(frame));
            drawn.map_err(terminal_error)?;
        }
        changed = event::poll(KEY_PATIENCE).map_err(terminal_error)?;
        if changed
            && let Event::Key(key) = event::read().map_err(terminal_error)?
            && key.kind != KeyEventKind::Release
            && screen.press(key)
        {
            return Ok(());
        }
    }
    Ok(())
}

/// What is shown.
pub struct Screen {
    address: String,
    latest: Option<Document>,
    overview: Option<Overview>,
    /// The API whose stages are shown, once the user has chosen.
    chosen: Option<String>,
    paused: bool,
    /// Whether words are explained in place of the picture.
    explains: bool,
    trouble: Option<String>,
}

impl Screen {
    /// A screen without a picture yet.
    pub fn new(address: &str) -> Screen {
        Screen {
            address: address.to_owned(),
            latest: None,
            overview: None,
            chosen: None,
            paused: false,
            explains: false,
            trouble: None,
        }
    }

    /// Takes the next document, or the reason why there is none.
    pub fn update(&mut self, document: Result<Document, String>) {
        match document {
            Ok(document) => {
                self.trouble = None;
                let earlier = self.latest.replace(document);
                let (Some(earlier), Some(later)) = (earlier, &self.latest) else {
                    return;
                };
                if let Some(overview) = Overview::between(&earlier, later)
                    && !self.paused
                {
                    self.overview = Some(overview);
                }
            }
            Err(reason) => {
                let first = reason.lines().next().unwrap_or_default();
                self.trouble = Some(first.to_owned());
            }
        }
    }

    /// Takes a key; whether it ends the show.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        if std::mem::take(&mut self.explains) && !key.modifiers.contains(KeyModifiers::CONTROL) {
            return false;
        }
        match key.code {
            _ if is_end(key) => return true,
            KeyCode::Char('?' | 'h') => self.explains = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Right | KeyCode::Tab => self.choose(1),
            KeyCode::Up | KeyCode::Left | KeyCode::BackTab => self.choose(-1),
            _ => {}
        }
        false
    }

    /// Moves the choice by `step` APIs, around the ends.
    fn choose(&mut self, step: isize) {
        let Some(overview) = &self.overview else {
            return;
        };
        let count = overview.apis.len();
        let Some(at) = self.selected(overview) else {
            return;
        };
        let next = at.checked_add_signed(step).unwrap_or(count - 1) % count;
        self.chosen = overview.apis.get(next).map(|api| api.name.clone());
    }

    /// The place of the chosen API; without a choice, of the first that tells its stages.
    fn selected(&self, overview: &Overview) -> Option<usize> {
        let chosen = |api: &Api| Some(&api.name) == self.chosen.as_ref();
        let telling = |api: &Api| !api.stages.is_empty();
        let place = overview.apis.iter().position(chosen);
        let place = place.or_else(|| overview.apis.iter().position(telling));
        place.or((!overview.apis.is_empty()).then_some(0))
    }

    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        if self.explains {
            draw_words(frame, area);
            return;
        }
        let Some(overview) = &self.overview else {
            let text = match &self.trouble {
                Some(trouble) => trouble.clone(),
                None => format!("{}: looking ...", self.address),
            };
            frame.render_widget(Paragraph::new(text), area);
            return;
        };
        let mut alarms = text::alarms(overview);
        alarms.extend(self.trouble.clone());
        let alarm_lines = u16::try_from(alarms.len()).unwrap_or(u16::MAX).min(3);
        let summary = summary_lines(overview, area.width);
        let apis = u16::try_from(overview.apis.len()).unwrap_or(u16::MAX);
        let more = u16::try_from(summary.len())
            .unwrap_or(u16::MAX)
            .saturating_sub(SUMMARY_LINES);
        let taken = HEIGHT_MIN.saturating_add(alarm_lines).saturating_add(more);
        let spare = area.height.saturating_sub(taken);
        let api_rows = apis.max(API_ROWS_MIN).min(API_ROWS_MIN + spare / 2);
        let [title, alarm_area, summary_area, api_area, bottom, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(alarm_lines),
            Constraint::Length(u16::try_from(summary.len()).unwrap_or(0)),
            Constraint::Length(api_rows + 2),
            Constraint::Min(STAGE_LINES),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_title(frame, title, overview);
        let alarms: Vec<Line<'_>> = alarms.into_iter().map(|a| Line::styled(a, ALARM)).collect();
        frame.render_widget(Paragraph::new(alarms), alarm_area);
        frame.render_widget(Paragraph::new(summary), summary_area);
        self.draw_apis(frame, api_area, overview);
        let right = (bottom.width * 2 / 5).max(27).min(bottom.width);
        let [left, _, right] = Layout::horizontal([
            Constraint::Fill(1),
            Constraint::Length(2),
            Constraint::Length(right),
        ])
        .areas(bottom);
        self.draw_stages(frame, left, overview);
        draw_limits_and_topics(frame, right, overview);
        let help = "q quit   p pause   up/down or tab: choose an API   ? what the words mean";
        frame.render_widget(Paragraph::new(help).style(HELP), keys);
    }

    fn draw_title(&self, frame: &mut Frame<'_>, area: Rect, overview: &Overview) {
        let title = text::title(overview, &self.address);
        let paused = if self.paused { "  PAUSED" } else { "" };
        let line = Line::from(vec![
            Span::styled(title, LABEL),
            Span::styled(paused, SELECTED),
        ]);
        frame.render_widget(Paragraph::new(line), area);
    }

    fn draw_apis(&self, frame: &mut Frame<'_>, area: Rect, overview: &Overview) {
        let area = Rect {
            y: area.y + u16::from(area.height > 0),
            height: area.height.saturating_sub(1),
            ..area
        };
        let selected = self.selected(overview);
        let visible = usize::from(area.height.saturating_sub(1)).max(1);
        // The chosen one stays in sight.
        let first = selected.map_or(0, |at| (at + 1).saturating_sub(visible));
        let rows = overview
            .apis
            .iter()
            .enumerate()
            .skip(first)
            .map(|(at, api)| {
                let row = row(&text::api_row(api));
                if Some(at) == selected {
                    row.style(SELECTED)
                } else {
                    row
                }
            });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(6),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
        ];
        let table = Table::new(rows, widths).header(heading(&text::API_HEADER));
        frame.render_widget(table, area);
    }

    /// The stages of the chosen API, and below them those of the others, as far as there is room.
    fn draw_stages(&self, frame: &mut Frame<'_>, area: Rect, overview: &Overview) {
        let Some(selected) = self.selected(overview) else {
            frame.render_widget(Paragraph::new("no requests"), area);
            return;
        };
        let chosen = overview.apis.get(selected);
        let others = overview.apis.iter().enumerate();
        let others = others.filter(|(at, api)| *at != selected && !api.stages.is_empty());
        let mut rest = area;
        for api in chosen.into_iter().chain(others.map(|(_, api)| api)) {
            if rest.height == 0 || (rest.y > area.y && rest.height < STAGE_LINES) {
                return;
            }
            let used = draw_stages_of(frame, rest, api) + 1;
            rest.y = rest.y.saturating_add(used);
            rest.height = rest.height.saturating_sub(used);
        }
    }
}

/// Draws the stages of one API; how many lines they need.
fn draw_stages_of(frame: &mut Frame<'_>, area: Rect, api: &Api) -> u16 {
    if api.stages.is_empty() {
        let text = format!("{}: only the whole is measured", api.name);
        frame.render_widget(Paragraph::new(text), area);
        return 1;
    }
    let widths = [16, 6, 7, 7];
    let fixed: u16 = widths.iter().sum();
    let bar_width = area.width.saturating_sub(fixed + 4);
    let rows = api.stages.iter().map(|stage| {
        let bar = text::bar(stage.share, usize::from(bar_width));
        let cells = text::stage_row(stage);
        Row::new(aligned(&cells).chain([Cell::from(Span::styled(bar, BAR))]))
    });
    let [_, columns @ ..] = text::STAGE_HEADER;
    let header: Vec<&str> = std::iter::once(api.name.as_str()).chain(columns).collect();
    let widths = widths.into_iter().chain([bar_width]);
    let table = Table::new(rows, widths.map(Constraint::Length)).header(heading(&header));
    frame.render_widget(table, area);
    u16::try_from(api.stages.len() + 1).unwrap_or(u16::MAX - 1)
}

fn draw_limits_and_topics(frame: &mut Frame<'_>, area: Rect, overview: &Overview) {
    let limits = u16::try_from(overview.occupancy.len()).unwrap_or(0);
    let [limit_area, topic_area] =
        Layout::vertical([Constraint::Length(limits), Constraint::Fill(1)]).areas(area);
    let bar_width = limit_area.width.saturating_sub(8 + 6 + 9 + 3);
    let rows = overview.occupancy.iter().map(|limit| {
        let ratio = limit.ratio();
        let is_short = ratio > NEARLY_FULL && !FILLED.contains(&limit.name);
        let style = if is_short { FULL } else { BAR };
        let cells = [limit.name.to_owned(), percent(ratio), bytes(limit.capacity)];
        let bar = Span::styled(text::bar(ratio, usize::from(bar_width)), style);
        Row::new(aligned(&cells).chain([Cell::from(bar)]))
    });
    let widths = [8, 6, 9, bar_width].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths), limit_area);

    let wide = topic_area.width >= WIDE_TOPICS;
    let columns: &[usize] = if wide { &[0, 1, 2, 3, 4] } else { &[0, 1, 3] };
    let pick = |cells: &[String]| -> Vec<String> {
        columns
            .iter()
            .filter_map(|at| cells.get(*at).cloned())
            .collect()
    };
    let header = text::TOPIC_HEADER.map(str::to_owned);
    let header: Vec<String> = pick(&header);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let numbers = u16::try_from(columns.len() - 1).unwrap_or(0) * (9 + 1);
    let name_columns = usize::from(topic_area.width.saturating_sub(numbers));
    let rows = overview.topics.iter().map(|topic| {
        let mut cells = pick(&text::topic_row(topic));
        cells[0] = text::shortened(&cells[0], name_columns);
        row(&cells)
    });
    let widths = columns.iter().map(|at| match at {
        0 => Constraint::Fill(1),
        _ => Constraint::Length(9),
    });
    frame.render_widget(
        Table::new(rows, widths).header(heading(&header)),
        topic_area,
    );
}

/// The summary in lines that fit, each with its name in front.
fn summary_lines(overview: &Overview, width: u16) -> Vec<Line<'static>> {
    let columns = usize::from(width.saturating_sub(LABEL_COLUMNS));
    let mut lines = Vec::new();
    for (label, sentence) in text::summary(overview) {
        let mut label = label;
        for part in text::wrapped(&sentence, columns) {
            let name = format!("{label:<width$}", width = usize::from(LABEL_COLUMNS));
            lines.push(Line::from(vec![Span::styled(name, LABEL), Span::raw(part)]));
            label = "";
        }
    }
    lines
}

fn draw_words(frame: &mut Frame<'_>, area: Rect) {
    let lines = WORDS.iter().map(|(word, meaning)| {
        let word = Span::styled(format!("{word:<18}"), LABEL);
        Line::from(vec![word, Span::raw(*meaning)])
    });
    let lines = lines.chain([Line::styled("any key: back", HELP)]);
    frame.render_widget(Paragraph::new(lines.collect::<Vec<Line<'_>>>()), area);
}

/// The first cell to the left, the others, which are numbers, to the right.
fn aligned(cells: &[String]) -> impl Iterator<Item = Cell<'static>> {
    cells.iter().enumerate().map(|(at, cell)| {
        let alignment = if at == 0 {
            Alignment::Left
        } else {
            Alignment::Right
        };
        Cell::from(Text::from(cell.clone()).alignment(alignment))
    })
}

fn row(cells: &[String]) -> Row<'static> {
    Row::new(aligned(cells))
}

fn heading(names: &[&str]) -> Row<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    row(&names).style(HEADING)
}
