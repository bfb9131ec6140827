//! The status page, in a browser.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::program::{LONG, Program};
use crate::stores::{Cache, Service};

/// Resolves with the content that the page has shown, at its next poll.
pub(crate) const NEXT_POLL: &str = "new Promise(done => document.addEventListener('polled', polled => done(polled.detail), { once: true }))";

/// No second poll within the test.
const ONCE: &str = "/?every=1000000000";

/// Each column of the table: its heading, and that of its group.
const COLUMNS: [[&str; 2]; 14] = [
    ["", "Type"],
    ["Hit ratio", "last 10 s"],
    ["Hit ratio", "total"],
    ["Per second, last 10 s", "hits"],
    ["Per second, last 10 s", "misses"],
    ["Per second, last 10 s", "loads"],
    ["Total since the start", "hits"],
    ["Total since the start", "absences"],
    ["Total since the start", "misses"],
    ["Total since the start", "loads"],
    ["Total since the start", "coalesced"],
    ["Total since the start", "stale"],
    ["Total since the start", "failed loads"],
    ["Total since the start", "errors"],
];

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + second)
}

/// A service in this process, after ten seconds with three samples. In the first two seconds there
/// were five reads of a user, three of an organisation and two of its twenty users, in the rest
/// three logins, the last of which was refused.
async fn service() -> Service {
    let service = Service::with_lists(Cache::InProcess, false).await;
    let app = &service.apps[0];
    app.sample(at(0));
    for (path, times) in [("/users/42", 5), ("/orgs/3", 3), ("/orgs/3/users", 2)] {
        for _ in 0..times {
            assert_eq!(service.get(path).await.0, 200);
        }
    }
    app.sample(at(2));
    for status in [401, 401, 429] {
        let body = json!({ "email": "ada@atl.example", "password": "wrong" });
        let login = service.ask_at(0, Method::POST, "/login", Some(body));
        assert_eq!(login.await.0, status);
    }
    app.sample(at(10));
    service
}

/// The text of an element.
fn text(page: &mut Chromium, selector: &str) -> String {
    let text = page.evaluate(&format!("document.querySelector({selector:?}).textContent"));
    text.as_str().expect("text").to_owned()
}

/// The cells of the rows of the table's part.
fn rows(page: &mut Chromium, part: &str) -> Value {
    page.evaluate(&format!(
        "Array.from(document.querySelectorAll('#types {part} tr'), row => \
            Array.from(row.cells, cell => cell.textContent).join(' | '))"
    ))
}

/// The values of the lines of a chart, and how often each is drawn: once unless it has gaps.
fn chart(page: &mut Chromium, id: &str) -> (Value, Value) {
    let lines = format!("JSON.parse(document.querySelector('#{id} svg').dataset.lines)");
    let drawn = format!(
        "['first', 'second'].map(line => \
            document.querySelectorAll('#{id} svg polyline.' + line).length)"
    );
    (page.evaluate(&lines), page.evaluate(&drawn))
}

/// Waits for a poll after which the page has shown this.
fn until_shown(page: &mut Chromium, condition: &str) {
    let started = Instant::now();
    while page.evaluate(condition) != true {
        assert!(started.elapsed() < LONG, "never: {condition}");
        page.evaluate(NEXT_POLL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_answer_has_the_history() {
    let service = service().await;
    let (_, first) = service.get("/status.json").await;
    let points = first["points"].as_array().expect("points");
    assert_eq!(points.len(), 2);
    assert_eq!(points[0]["at"], 1_000_002_000_u64);
    for (field, values) in [
        ("seconds", [json!(2.0), json!(8.0)]),
        ("hit_ratio", [json!(0.54), json!(null)]),
        ("hits", [json!(13.5), json!(0.0)]),
        ("misses", [json!(11.5), json!(0.0)]),
        ("loads", [json!(2.0), json!(0.0)]),
        ("allowed", [json!(5.0), json!(0.25)]),
        ("refused", [json!(0.0), json!(0.125)]),
    ] {
        let shown: Vec<_> = points.iter().map(|point| &point[field]).collect();
        assert_eq!(shown, values.each_ref(), "{field}");
    }
    for field in ["median", "p99"] {
        assert!(points[0][field].as_f64() > Some(0.0), "{field}");
    }

    // The page asks for what is new.
    let (_, next) = service.get("/status.json?after=1000002000").await;
    assert_eq!(next["points"], json!([points[1]]));
    let (_, none) = service.get("/status.json?after=1000010000").await;
    assert_eq!(none["points"], json!([]));
    for field in ["types", "recent", "hits", "allowed", "refused"] {
        assert_eq!(none[field], first[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_the_history_as_soon_as_it_is_opened() {
    let service = service().await;
    let mut page = Chromium::start();
    page.open(&service.url(ONCE));
    page.evaluate("shown");
    for (selector, shown) in [
        ("#location", "this process"),
        ("#breaker", "closed"),
        ("#requests", "13"),
        ("#refused", "1"),
        ("#alert", ""),
        ("#hits b", "54.0 %"),
        ("#loads b", "0.4"),
        ("#limits .first b", "1.2"),
        ("#limits .second b", "0.1"),
    ] {
        assert_eq!(text(&mut page, selector), shown, "{selector}");
    }
    for selector in ["#latencies .first b", "#latencies .second b"] {
        // On a busy machine a request may take longer than the last bound.
        let shown = text(&mut page, selector);
        assert!(shown.starts_with(['<', '>']), "{selector}: {shown}");
    }
    for (id, lines, drawn) in [
        ("hits", json!([[54, null]]), json!([1, 0])),
        ("loads", json!([[2, 0]]), json!([1, 0])),
        ("limits", json!([[5, 0.25], [0, 0.125]]), json!([1, 1])),
    ] {
        assert_eq!(chart(&mut page, id), (lines, drawn), "{id}");
    }
    assert_eq!(chart(&mut page, "latencies").1, json!([1, 1]));
    assert_eq!(page.complaints, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_has_a_row_for_each_type_and_rates_under_a_heading_of_rates() {
    let service = service().await;
    let mut page = Chromium::start();
    page.open(&service.url(ONCE));
    page.evaluate("shown");
    // Of each column as wide as it says.
    let columns = "(([groups, columns]) => {
        groups = Array.from(groups.cells).flatMap(cell => Array(cell.colSpan).fill(cell.textContent));
        return Array.from(columns.cells, (cell, at) => [groups[at], cell.textContent]);
    })(document.getElementById('types').tHead.rows)";
    assert_eq!(page.evaluate(columns), json!(COLUMNS));
    assert_eq!(
        rows(&mut page, "tbody"),
        json!([
            "org | 66.7 % | 66.7 % | 0.2 | 0.1 | 0.1 | 2 | 0 | 1 | 1 | 0 | 0 | 0 | 0",
            "page | 50.0 % | 50.0 % | 0.1 | 0.1 | 0.1 | 1 | 0 | 1 | 1 | 0 | 0 | 0 | 0",
            "user | 53.3 % | 53.3 % | 2.4 | 2.1 | 0.2 | 24 | 0 | 21 | 2 | 0 | 0 | 0 | 0",
        ])
    );
    let all = "all | 54.0 % | 54.0 % | 2.7 | 2.3 | 0.4 | 27 | 0 | 23 | 4 | 0 | 0 | 0 | 0";
    assert_eq!(rows(&mut page, "tfoot"), json!([all]));
    assert_eq!(page.complaints, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_adds_what_is_new() {
    let service = service().await;
    let mut page = Chromium::start();
    page.open(&service.url("/?every=50"));
    page.evaluate("shown");
    // A row of its own, for a look-up that finds nothing.
    let (status, _) = service.get("/users?email=nobody@atl.example").await;
    assert_eq!(status, 404);
    service.apps[0].sample(at(20));
    until_shown(&mut page, "points.length === 3");
    assert_eq!(text(&mut page, "#hits b"), "0.0 %");
    assert_eq!(
        chart(&mut page, "hits"),
        (json!([[54, null, 0]]), json!([2, 0]))
    );
    let names = "Array.from(document.querySelectorAll('#types tbody th'), th => th.textContent)";
    let names = page.evaluate(names);
    assert_eq!(names, json!(["org", "page", "user", "user by email"]));

    // Of more than five minutes it forgets the oldest.
    service.apps[0].sample(at(305));
    until_shown(&mut page, "points.at(-1).at === 1000305000");
    let times = page.evaluate("points.map(point => point.at)");
    assert_eq!(times, json!([1_000_010_000, 1_000_020_000, 1_000_305_000]));
    assert_eq!(page.complaints, [] as [Value; 0]);
}

#[tokio::test]
async fn the_program_keeps_a_history_and_the_page_says_when_it_is_gone() {
    let mut program = Program::start(&[]);
    let mut page = Chromium::start();
    page.open(&program.url("/?every=50"));
    until_shown(&mut page, "points.length >= 2");
    assert_eq!(text(&mut page, "#alert"), "");
    // The types that nobody has used.
    assert_eq!(
        rows(&mut page, "tbody"),
        json!(["org", "page", "user"].map(|name| {
            format!("{name} | – | – | 0.0 | 0.0 | 0.0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0")
        }))
    );
    assert_eq!(page.complaints, [] as [Value; 0]);

    program.terminate();
    assert_eq!(program.wait(), Some(0));
    let gone = "new Promise(done => {
        const alert = document.getElementById('alert');
        const look = () => alert.textContent && done(alert.textContent);
        new MutationObserver(look).observe(alert, { childList: true });
        look();
    })";
    let gone = page.evaluate(gone);
    assert_eq!(
        gone,
        "The service does not answer. The numbers are the last ones."
    );
}
