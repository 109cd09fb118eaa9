//! Shapes, and how they become SVG for the page and PNG beside it.
//!
//! Colours have names here. In SVG they become CSS variables, so that one picture serves a light and a dark page; in
//! PNG they are the light ones. Coordinates are quarters of a CSS pixel: the drawing library counts in whole numbers.
//!
//! Text in PNG needs a font without asking the system for one: Ubuntu Light comes with `epaint_default_fonts`, and
//! `ab_glyph` draws it, so neither fontconfig nor freetype has to be installed.

use std::path::Path;
use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, register_font};

/// Width of every picture.
pub const WIDTH: u32 = 1_600;
/// Length of a dash and of the gap behind it.
const DASH: f64 = 24.0;
/// Series that have a colour of their own.
pub const SERIES_INKS: usize = 8;

/// A colour by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// What is drawn on.
    Surface,
    /// Lines behind the data.
    Grid,
    /// The line at the foot of a chart.
    Axis,
    /// Words that matter.
    Text,
    /// Words beside them.
    Muted,
    /// A limit.
    Limit,
    /// Series by number; they repeat after `SERIES_INKS`.
    Series(usize),
}

/// Light colours of series: told apart with every common colour blindness in this order, at least 4.5:1 on white.
const SERIES: [(u8, u8, u8); SERIES_INKS] = [
    (0x0b, 0x62, 0xb5),
    (0xb8, 0x4a, 0x00),
    (0x0b, 0x7a, 0x5b),
    (0x8a, 0x3f, 0xa8),
    (0xb8, 0x28, 0x3a),
    (0x0a, 0x77, 0x88),
    (0x80, 0x66, 0x00),
    (0x54, 0x60, 0x6b),
];

impl Ink {
    const NAMED: [Ink; 6] = [
        Ink::Surface,
        Ink::Grid,
        Ink::Axis,
        Ink::Text,
        Ink::Muted,
        Ink::Limit,
    ];

    fn all() -> impl Iterator<Item = Ink> {
        let series = (0..SERIES_INKS).map(Ink::Series);
        Ink::NAMED.into_iter().chain(series)
    }

    /// No two are the same: the names are found again by the colour.
    fn light(self) -> RGBColor {
        let (r, g, b) = match self {
            Ink::Surface => (0xff, 0xff, 0xff),
            Ink::Grid => (0xe4, 0xe8, 0xec),
            Ink::Axis => (0x8d, 0x98, 0xa3),
            Ink::Text => (0x16, 0x1b, 0x22),
            Ink::Muted => (0x59, 0x63, 0x6e),
            Ink::Limit => (0xc6, 0x1f, 0x3f),
            Ink::Series(number) => SERIES[number % SERIES_INKS],
        };
        RGBColor(r, g, b)
    }

    /// The CSS variable, with its dashes.
    pub fn variable(self) -> String {
        match self {
            Ink::Surface => "--surface".to_owned(),
            Ink::Grid => "--grid".to_owned(),
            Ink::Axis => "--axis".to_owned(),
            Ink::Text => "--text".to_owned(),
            Ink::Muted => "--muted".to_owned(),
            Ink::Limit => "--limit".to_owned(),
            Ink::Series(number) => format!("--series-{}", number % SERIES_INKS),
        }
    }
}

/// Which end of a text its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

/// Signs of points, so that colour is not all that tells series apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A circle around another sign.
    Ring,
}

impl Marker {
    /// The sign of a series; sign and colour together repeat after 32.
    pub fn of_series(number: usize) -> Marker {
        let signs = [
            Marker::Circle,
            Marker::Square,
            Marker::Triangle,
            Marker::Diamond,
        ];
        signs[(number + number / SERIES_INKS) % signs.len()]
    }
}

/// A place: right, down.
pub type Place = (f64, f64);

/// One thing on a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through places.
    Line {
        /// Where it goes.
        places: Vec<Place>,
        /// Its colour.
        ink: Ink,
        /// How thick it is.
        width: u32,
        /// Whether it is broken.
        dashed: bool,
    },
    /// A sign.
    Sign {
        /// Its middle.
        at: Place,
        /// Which.
        marker: Marker,
        /// Its colour.
        ink: Ink,
        /// From its middle to its edge.
        radius: f64,
    },
    /// Words, centred on the height of their place.
    Words {
        /// The words.
        text: String,
        /// Where.
        at: Place,
        /// Which end is there.
        anchor: Anchor,
        /// Their colour.
        ink: Ink,
        /// Their height.
        size: f64,
    },
    /// A filled box.
    Box {
        /// Left upper corner.
        from: Place,
        /// Right lower corner.
        to: Place,
        /// Its colour.
        ink: Ink,
    },
    /// A place that says something when it is pointed at; on a page only.
    Spot {
        /// Its middle.
        at: Place,
        /// How far it reaches.
        radius: f64,
        /// What is said.
        text: String,
    },
}

/// A picture that cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw: {0}")]
pub struct DrawError(String);

/// As an `<svg>` element that scales to its place and takes its colours from the page. `title` is read aloud.
pub fn svg(shapes: &[Shape], height: u32, title: &str) -> Result<String, DrawError> {
    let mut text = String::new();
    let backend = SVGBackend::with_string(&mut text, (WIDTH, height));
    draw(shapes, backend.into_drawing_area())?;
    let start = text.find('>').map_or(0, |at| at + 1);
    let body = text.get(start..).unwrap_or_default();
    let mut body = body.replace('\n', "");
    for ink in Ink::all() {
        let RGBColor(r, g, b) = ink.light();
        for property in ["fill", "stroke"] {
            let fixed = format!("{property}=\"#{r:02X}{g:02X}{b:02X}\"");
            let named = format!("style=\"{property}:var({})\"", ink.variable());
            body = body.replace(&fixed, &named);
        }
    }
    // What every shape repeats and what is the default anyway.
    let body = body
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "");
    let title = super::page::escaped(title);
    let body = body.strip_suffix("</svg>").unwrap_or(&body);
    let spots: String = shapes.iter().filter_map(spot).collect();
    Ok(format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>{body}{spots}</svg>"
    ))
}

/// What is said where it is pointed at; the drawing library knows no such thing.
fn spot(shape: &Shape) -> Option<String> {
    let Shape::Spot { at, radius, text } = shape else {
        return None;
    };
    let ((right, down), text) = (whole(*at), super::page::escaped(text));
    let radius = radius.round() as i32;
    Some(format!(
        "<circle cx=\"{right}\" cy=\"{down}\" r=\"{radius}\" fill=\"transparent\"><title>{text}</title></circle>"
    ))
}

/// As a PNG file, in light colours.
pub fn png(shapes: &[Shape], height: u32, path: &Path) -> Result<(), DrawError> {
    let mut all = vec![Shape::Box {
        from: (0.0, 0.0),
        to: (f64::from(WIDTH), f64::from(height)),
        ink: Ink::Surface,
    }];
    all.extend(shapes.iter().cloned().map(settled));
    draw(
        &all,
        BitMapBackend::new(path, (WIDTH, height)).into_drawing_area(),
    )
}

/// Words a little lower: the bitmap's text is centred with the room below its base line, the page's is not.
fn settled(shape: Shape) -> Shape {
    match shape {
        Shape::Words {
            text,
            at: (right, down),
            anchor,
            ink,
            size,
        } => Shape::Words {
            at: (right, down + size * 0.1),
            text,
            anchor,
            ink,
            size,
        },
        other => other,
    }
}

/// Registers the font once; both backends measure text with it.
fn font() -> Result<(), DrawError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        let bytes = epaint_default_fonts::UBUNTU_LIGHT;
        register_font("sans-serif", FontStyle::Normal, bytes).is_ok()
    });
    registered
        .then_some(())
        .ok_or_else(|| DrawError("the font that is built in cannot be read".to_owned()))
}

fn draw<B: DrawingBackend>(shapes: &[Shape], area: DrawingArea<B, Shift>) -> Result<(), DrawError> {
    font()?;
    for shape in shapes {
        draw_shape(shape, &area).map_err(|error| DrawError(error.to_string()))?;
    }
    area.present().map_err(|error| DrawError(error.to_string()))
}

type Drawn<B> =
    Result<(), plotters::drawing::DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn draw_shape<B: DrawingBackend>(shape: &Shape, area: &DrawingArea<B, Shift>) -> Drawn<B> {
    match shape {
        Shape::Line {
            places,
            ink,
            width,
            dashed,
        } => {
            let style = ShapeStyle {
                color: ink.light().to_rgba(),
                filled: false,
                stroke_width: *width,
            };
            let pieces = if *dashed {
                dashes(places)
            } else {
                vec![places.clone()]
            };
            for piece in pieces {
                let points: Vec<(i32, i32)> = piece.into_iter().map(whole).collect();
                area.draw(&PathElement::new(points, style))?;
            }
            Ok(())
        }
        Shape::Sign {
            at,
            marker,
            ink,
            radius,
        } => draw_sign(*at, *marker, *ink, *radius, area),
        Shape::Words {
            text,
            at,
            anchor,
            ink,
            size,
        } => {
            let horizontal = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            let style = ("sans-serif", *size)
                .into_font()
                .color(&ink.light())
                .pos(Pos::new(horizontal, VPos::Center));
            area.draw(&Text::new(text.clone(), whole(*at), style))
        }
        Shape::Box { from, to, ink } => area.draw(&Rectangle::new(
            [whole(*from), whole(*to)],
            ink.light().filled(),
        )),
        Shape::Spot { .. } => Ok(()),
    }
}

fn draw_sign<B: DrawingBackend>(
    (x, y): Place,
    marker: Marker,
    ink: Ink,
    radius: f64,
    area: &DrawingArea<B, Shift>,
) -> Drawn<B> {
    let filled = ink.light().filled();
    let polygon = |corners: &[Place]| -> Vec<(i32, i32)> {
        let corners = corners
            .iter()
            .map(|(right, down)| (x + right * radius, y + down * radius));
        corners.map(whole).collect()
    };
    match marker {
        Marker::Circle => area.draw(&Circle::new(whole((x, y)), radius as i32, filled)),
        Marker::Ring => {
            let style = ShapeStyle {
                color: ink.light().to_rgba(),
                filled: false,
                stroke_width: 8,
            };
            area.draw(&Circle::new(whole((x, y)), radius as i32, style))
        }
        Marker::Square => {
            let corners = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)];
            area.draw(&Polygon::new(polygon(&corners), filled))
        }
        Marker::Triangle => {
            let corners = [(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)];
            area.draw(&Polygon::new(polygon(&corners), filled))
        }
        Marker::Diamond => {
            let corners = [(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)];
            area.draw(&Polygon::new(polygon(&corners), filled))
        }
    }
}

fn whole((right, down): Place) -> (i32, i32) {
    (right.round() as i32, down.round() as i32)
}

/// A line cut into dashes. Lines are a few thousand units long, so the pieces are few.
fn dashes(places: &[Place]) -> Vec<Vec<Place>> {
    let mut pieces = Vec::new();
    for ends in places.windows(2) {
        let ((x0, y0), (x1, y1)) = (ends[0], ends[1]);
        let length = (x1 - x0).hypot(y1 - y0);
        let count = (length / (2.0 * DASH)).ceil() as u32;
        let at = |distance: f64| {
            let share = (distance / length).min(1.0);
            (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share)
        };
        for piece in 0..count {
            let from = f64::from(piece) * 2.0 * DASH;
            pieces.push(vec![at(from), at(from + DASH)]);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_found_again_by_its_name() {
        let mut seen = std::collections::BTreeSet::new();
        for ink in Ink::all() {
            let RGBColor(r, g, b) = ink.light();
            assert!(seen.insert((r, g, b)), "{ink:?} looks like another one");
        }
    }

    #[test]
    fn svg_names_its_colours_and_sizes_itself() {
        let shapes = [
            Shape::Line {
                places: vec![(0.0, 0.0), (100.0, 50.0)],
                ink: Ink::Series(1),
                width: 8,
                dashed: true,
            },
            Shape::Sign {
                at: (10.0, 10.0),
                marker: Marker::Ring,
                ink: Ink::Limit,
                radius: 9.0,
            },
            Shape::Words {
                text: "a < b".to_owned(),
                at: (5.0, 5.0),
                anchor: Anchor::Middle,
                ink: Ink::Text,
                size: 50.0,
            },
        ];
        let svg = svg(&shapes, 1_200, "one & two").unwrap();
        assert!(
            svg.starts_with("<svg viewBox=\"0 0 1600 1200\" role=\"img\""),
            "{svg}"
        );
        assert!(
            svg.ends_with("</svg>") && svg.contains("one &amp; two") && svg.contains("a &lt; b")
        );
        assert!(!svg.contains("=\"#"), "a colour is fixed: {svg}");
        for variable in [
            "stroke:var(--series-1)",
            "stroke:var(--limit)",
            "fill:var(--text)",
        ] {
            assert!(svg.contains(variable), "{variable}: {svg}");
        }
        assert!(svg.matches("<polyline").count() >= 2, "dashes: {svg}");
    }

    #[test]
    fn dashes_stay_on_the_line() {
        let pieces = dashes(&[(0.0, 0.0), (100.0, 0.0)]);
        assert_eq!(pieces.len(), 3);
        assert!(
            pieces
                .iter()
                .flatten()
                .all(|(x, y)| (0.0..=100.0).contains(x) && *y == 0.0)
        );
        assert!(dashes(&[(1.0, 1.0), (1.0, 1.0)]).is_empty());
    }
}
