//! [`View`]: what is on the screen.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};

use super::sample::{Figures, Sample};
use crate::format;

/// The state of the screen.
#[derive(Debug)]
pub(super) struct View {
    target: String,
    interval: Duration,
    is_paused: bool,
    sample: Option<Sample>,
    /// The latest last; as many as a wide screen shows.
    operations: VecDeque<u64>,
    latencies: VecDeque<u64>,
}

const HISTORY: usize = 400;

impl View {
    pub(super) fn new(target: String, interval: Duration) -> Self {
        Self {
            target,
            interval,
            is_paused: false,
            sample: None,
            operations: VecDeque::new(),
            latencies: VecDeque::new(),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn pause(&mut self) {
        self.is_paused = !self.is_paused;
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    pub(super) fn take(&mut self, sample: Sample) {
        let latency = sample.total.latency_seconds.unwrap_or_default();
        for (history, value) in [
            (&mut self.operations, sample.total.ops_per_second),
            (&mut self.latencies, latency * 1e6),
        ] {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(whole(value));
        }
        self.sample = Some(sample);
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let Some(sample) = &self.sample else {
            frame.render_widget(Paragraph::new(format!("asking {} ...", self.target)), area);
            return;
        };
        let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let (nodes, programs) = (
            sample.servers.len() + sample.failed.len(),
            sample.programs.len(),
        );
        let [head, numbers, charts, servers, instances, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(3),
            Constraint::Length(if area.height >= 24 { 7 } else { 0 }),
            Constraint::Length(rows(nodes).saturating_add(3)),
            Constraint::Min(if programs > 0 { 4 } else { 0 }),
            Constraint::Length(1),
        ])
        .areas(area);
        self.head(frame, head, sample);
        draw_numbers(frame, numbers, &sample.total);
        self.charts(frame, charts);
        draw_servers(frame, servers, sample);
        draw_programs(frame, instances, sample);
        let paused = if self.is_paused { "PAUSED  " } else { "" };
        let interval = format::duration(self.interval);
        let keys = format!("{paused}every {interval}   q quit   p pause   + - interval");
        frame.render_widget(
            Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)),
            foot,
        );
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
        let (state, color) = match (sample.servers.is_empty(), sample.failed.is_empty()) {
            (true, _) => ("NO SERVER ANSWERS", Color::Red),
            (false, false) => ("NOT ALL SERVERS ANSWER", Color::Yellow),
            (false, true) => ("ok", Color::Green),
        };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let head = Line::from(vec![
            Span::styled("redkit watch  ", bold),
            Span::raw(format!("{}  ", self.target)),
            Span::styled(state, bold.fg(color)),
            Span::raw(format!("  {}", sample.at)),
        ]);
        frame.render_widget(Paragraph::new(head), area);
    }

    fn charts(&self, frame: &mut Frame<'_>, area: Rect) {
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
        for (area, title, history) in [
            (left, "operations in a second", &self.operations),
            (right, "latency in us", &self.latencies),
        ] {
            let width = usize::from(area.width.saturating_sub(2));
            let shown: Vec<u64> = history.iter().rev().take(width).rev().copied().collect();
            let most = shown.iter().copied().max().unwrap_or(0);
            let block = Block::bordered().title(format!("{title}, at most {most}"));
            frame.render_widget(Sparkline::default().data(&shown).block(block), area);
        }
    }
}

fn draw_numbers(frame: &mut Frame<'_>, area: Rect, total: &Figures) {
    let memory = match total.maxmemory_bytes {
        0 => format::bytes(total.used_memory_bytes),
        most => format!(
            "{} of {}",
            format::bytes(total.used_memory_bytes),
            format::bytes(most)
        ),
    };
    let numbers = [
        ("ops/s", format!("{:.0}", total.ops_per_second)),
        ("memory", memory),
        ("clients", total.connected_clients.to_string()),
        ("latency", latency(total.latency_seconds)),
        ("hit rate", share(total.hit_rate)),
        ("keys", total.keys.to_string()),
        ("evicted/s", format!("{:.0}", total.evicted_per_second)),
    ];
    let areas = Layout::horizontal([Constraint::Fill(1); 7]).split(area);
    for ((title, value), area) in numbers.into_iter().zip(areas.iter()) {
        let number = Paragraph::new(value).block(Block::bordered().title(title));
        frame.render_widget(number, *area);
    }
}

fn draw_servers(frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let head = Row::new([
        "server", "version", "role", "ops/s", "memory", "clients", "latency", "hit rate", "keys",
        "in", "out",
    ])
    .style(bold);
    let nodes = sample.servers.iter().map(|node| {
        let figures = &node.figures;
        let rate = |bytes: f64| format!("{}/s", format::bytes(whole(bytes)));
        Row::new([
            node.name.clone(),
            node.version.clone(),
            format!("{} +{}", node.role, node.replicas),
            format!("{:.0}", figures.ops_per_second),
            format::bytes(figures.used_memory_bytes),
            figures.connected_clients.to_string(),
            latency(figures.latency_seconds),
            share(figures.hit_rate),
            figures.keys.to_string(),
            rate(figures.input_bytes_per_second),
            rate(figures.output_bytes_per_second),
        ])
    });
    let widths = [
        Constraint::Min(16),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Length(12),
    ];
    let block = Block::bordered().title("servers");
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let shown = u16::try_from(sample.servers.len() + 1).unwrap_or(u16::MAX);
    let [top, bottom] =
        Layout::vertical([Constraint::Max(shown), Constraint::Fill(1)]).areas(inside);
    frame.render_widget(Table::new(nodes, widths).header(head), top);
    let failed = sample.failed.iter();
    let failed = failed
        .map(|failed| Line::from(format!("{} does not answer: {}", failed.name, failed.error)));
    let failed = Paragraph::new(failed.collect::<Vec<_>>()).style(Style::new().fg(Color::Red));
    frame.render_widget(failed, bottom);
}

fn draw_programs(frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
    if sample.programs.is_empty() || area.height < 3 {
        return;
    }
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let head = Row::new([
        "program", "host", "process", "status", "calls/s", "errors", "up", "breakers",
    ])
    .style(bold);
    let seconds = |seconds: f64| {
        let time = Duration::try_from_secs_f64(seconds);
        format::duration(time.unwrap_or_default())
    };
    let rows = sample.programs.iter().map(|program| {
        let color = match program.status.as_str() {
            "fail" => Color::Red,
            "warn" => Color::Yellow,
            _ => Color::Reset,
        };
        let rate = program.calls_per_second.map(|rate| format!("{rate:.0}"));
        Row::new([
            program.program.clone(),
            program.host.clone(),
            program.process.to_string(),
            program.status.clone(),
            rate.unwrap_or_else(|| "-".to_owned()),
            program.errors.to_string(),
            seconds(program.up_seconds),
            program.breakers.join(", "),
        ])
        .style(Style::new().fg(color))
    });
    let widths = [
        Constraint::Min(12),
        Constraint::Min(12),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Min(12),
    ];
    let table = Table::new(rows, widths).header(head);
    frame.render_widget(table.block(Block::bordered().title("programs")), area);
}

fn latency(seconds: Option<f64>) -> String {
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map_or("-".to_owned(), format::duration)
}

fn share(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such a cast saturates, and what is drawn is a count"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::instances::Instance;
    use super::super::sample::{Failed, Node};
    use super::*;

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn sample() -> Sample {
        let figures = Figures {
            ops_per_second: 1234.0,
            used_memory_bytes: 3 << 20,
            maxmemory_bytes: 1 << 30,
            connected_clients: 17,
            latency_seconds: Some(0.000_25),
            hit_rate: Some(0.875),
            keys: 42,
            ..Figures::default()
        };
        Sample {
            at: "2026-01-01T00:00:00Z".to_owned(),
            total: figures.clone(),
            servers: vec![Node {
                name: "127.0.0.1:7000".to_owned(),
                version: "7.0.15".to_owned(),
                role: "master",
                replicas: 2,
                figures,
            }],
            failed: vec![Failed {
                name: "127.0.0.1:7001".to_owned(),
                error: "refused".to_owned(),
            }],
            programs: vec![Instance {
                program: "storefront".to_owned(),
                host: "web-3".to_owned(),
                process: 71,
                status: "warn".to_owned(),
                calls_per_second: Some(99.0),
                breakers: vec!["default open".to_owned()],
                ..Instance::default()
            }],
        }
    }

    #[test]
    fn figures_servers_and_programs_are_on_the_screen() {
        let mut view = View::new("redis-cluster://a,b".to_owned(), Duration::from_secs(1));
        assert!(drawn(&view, 80, 24).contains("asking redis-cluster://a,b"));
        view.take(sample());
        let screen = drawn(&view, 150, 40);
        for shown in [
            "redis-cluster://a,b",
            "NOT ALL SERVERS ANSWER",
            "1234",
            "3.0 MiB of 1.0 GiB",
            "17",
            "250us",
            "87.5 %",
            "42",
            "127.0.0.1:7000",
            "7.0.15",
            "master +2",
            "127.0.0.1:7001",
            "does not answer",
            "storefront",
            "web-3",
            "warn",
            "99",
            "default open",
            "q quit",
            "at most 1234",
        ] {
            assert!(screen.contains(shown), "{shown}:\n{screen}");
        }
        view.pause();
        assert!(drawn(&view, 150, 40).contains("PAUSED"));
    }

    #[test]
    fn a_small_terminal_is_no_error_and_history_is_bounded() {
        let mut view = View::new("redis://a".to_owned(), Duration::from_secs(1));
        for _ in 0..1_000 {
            view.take(sample());
        }
        assert_eq!(
            (view.operations.len(), view.latencies.len()),
            (HISTORY, HISTORY)
        );
        for (width, height) in [(1, 1), (20, 5), (80, 24), (400, 100)] {
            drawn(&view, width, height);
        }
        let mut none = sample();
        none.servers.clear();
        view.take(none);
        assert!(drawn(&view, 100, 30).contains("NO SERVER ANSWERS"));
    }
}
