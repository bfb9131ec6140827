//! Random requests of clients at once. Each client owns two organisations with their users, so it
//! knows what each of its requests has to be answered, whatever the others do: a plain model says
//! so. They read each other's rows as well, so that loads and writes of a key overlap; and each
//! request goes to either instance, so that one reads what the other wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::stores::{Cache, Service};

const CLIENTS: i64 = 8;
const REQUESTS: usize = 60;
const PAGE: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_answers_are_right_with_the_cache_off() {
    all_answers_are_right(Cache::Off).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_answers_are_right_in_process() {
    all_answers_are_right(Cache::InProcess).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_answers_are_right_on_valkey() {
    all_answers_are_right(Cache::Valkey).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_answers_are_right_on_a_cluster() {
    all_answers_are_right(Cache::Cluster).await;
}

/// Two with the same requests and the same right answers have equal ones.
async fn all_answers_are_right(cache: Cache) {
    let service = Arc::new(Service::new(cache).await);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = Client::new(service.clone(), number).await;
        clients.spawn(async move {
            for _ in 0..REQUESTS {
                client.step().await;
            }
            client
        });
    }
    let mut clients = clients.join_all().await;
    // Users who do not exist are loaded each time, by each instance.
    let absent = clients.iter().map(Client::absent).sum::<usize>() as u64 * 2;
    // Nobody writes any more: every answer is the database's, and soon nothing else is loaded. On a
    // busy machine a lease may run out, and then a load is not stored.
    let mut looks = 0;
    loop {
        let loads = service.loads();
        for client in &mut clients {
            client.look_at_everything().await;
        }
        looks += 1;
        let loads = service.loads() - loads;
        if cache == Cache::Off {
            assert!(loads > absent, "{loads} loads");
            return;
        }
        if looks > 1 && loads == absent {
            return;
        }
        assert!(looks < 10, "{loads} loads, of which {absent} are needed");
    }
}

struct Client {
    service: Arc<Service>,
    random: Rng,
    number: i64,
    orgs: BTreeMap<i64, String>,
    users: BTreeMap<i64, Row>,
    /// Every id and e-mail there ever was, and some that there never was.
    ids: Vec<i64>,
    emails: Vec<String>,
}

#[derive(Clone, PartialEq)]
struct Row {
    org: i64,
    name: String,
    email: String,
}

impl Client {
    async fn new(service: Arc<Service>, number: i64) -> Self {
        let own = [2 * number + 1, 2 * number + 2];
        let mut orgs: BTreeMap<i64, String> = BTreeMap::new();
        let mut users = BTreeMap::new();
        for org in own {
            let name = sqlx::query_scalar("SELECT name FROM orgs WHERE id = ?").bind(org);
            orgs.insert(org, name.fetch_one(&service.db).await.expect("a row"));
            let rows =
                sqlx::query_as("SELECT id, name, email FROM users WHERE org_id = ?").bind(org);
            let rows: Vec<(i64, String, String)> = rows.fetch_all(&service.db).await.expect("rows");
            let rows = rows
                .into_iter()
                .map(|(id, name, email)| (id, Row { org, name, email }));
            users.extend(rows);
        }
        // Few, so that they are asked for again and again.
        let ids: Vec<i64> = users.keys().copied().take(8).collect();
        let emails = ids.iter().map(|id| users[id].email.clone()).collect();
        Self {
            service,
            random: Rng::with_seed(number as u64),
            number,
            orgs,
            users,
            ids: [ids, vec![1_000_000]].concat(),
            emails,
        }
    }

    /// The number of ids without a user.
    fn absent(&self) -> usize {
        let ids = self.ids.iter();
        ids.filter(|id| !self.users.contains_key(*id)).count()
    }

    /// A request, and what it has to be answered.
    async fn step(&mut self) {
        match self.random.u8(..20) {
            0..4 => self.get_user().await,
            4..7 => self.get_by_email().await,
            7..10 => self.get_page().await,
            10..13 => self.replace().await,
            13 => self.create().await,
            14 => self.remove().await,
            15..17 => self.transfer().await,
            17 => self.rename().await,
            _ => self.get_anothers().await,
        }
    }

    async fn get_user(&mut self) {
        let id = self.any_id();
        self.expect(Method::GET, format!("/users/{id}"), None, self.shown(id))
            .await;
    }

    async fn get_by_email(&mut self) {
        let email = self.any_email();
        let path = format!("/users?email={email}");
        self.expect(Method::GET, path, None, self.shown_by_email(&email))
            .await;
    }

    async fn get_page(&mut self) {
        let (org, page) = (self.any_org(), self.random.usize(..5));
        let path = format!("/orgs/{org}/users?page={page}");
        self.expect(Method::GET, path, None, self.page(org, page))
            .await;
    }

    async fn replace(&mut self) {
        let (id, name) = (self.any_id(), self.name());
        // Sometimes one that is taken, perhaps by the same user.
        let email = if self.random.u8(..4) == 0 {
            self.any_email()
        } else {
            self.new_email()
        };
        let body = json!({ "name": name, "email": email });
        let by_another = |(&other, row): (&i64, &Row)| other != id && row.email == email;
        let expected = if !self.users.contains_key(&id) {
            (StatusCode::NOT_FOUND, None)
        } else if self.users.iter().any(by_another) {
            (StatusCode::CONFLICT, None)
        } else {
            let org = self.users[&id].org;
            self.users.insert(id, Row { org, name, email });
            self.shown(id)
        };
        self.expect(Method::PUT, format!("/users/{id}"), Some(body), expected)
            .await;
    }

    async fn create(&mut self) {
        let (org, name, email) = (self.any_org(), self.name(), self.new_email());
        let body = json!({ "org_id": org, "name": name, "email": email });
        let (status, said) = self.ask(Method::POST, "/users".into(), Some(body)).await;
        let id = said["id"].as_i64().expect("an id");
        self.ids.push(id);
        self.users.insert(id, Row { org, name, email });
        assert_eq!(status, StatusCode::CREATED);
        assert_eq!(Some(said), self.shown(id).1);
    }

    async fn remove(&mut self) {
        let id = self.any_id();
        let expected = match self.users.remove(&id) {
            Some(_) => (StatusCode::NO_CONTENT, Some(Value::Null)),
            None => (StatusCode::NOT_FOUND, None),
        };
        self.expect(Method::DELETE, format!("/users/{id}"), None, expected)
            .await;
    }

    async fn transfer(&mut self) {
        let (id, from, to) = (self.any_id(), self.any_org(), self.any_org());
        let body = json!({ "from": from, "to": to });
        let expected = match self.users.get_mut(&id).filter(|row| row.org == from) {
            Some(row) => {
                row.org = to;
                self.shown(id)
            }
            None => (StatusCode::NOT_FOUND, None),
        };
        self.expect(
            Method::POST,
            format!("/users/{id}/transfer"),
            Some(body),
            expected,
        )
        .await;
    }

    async fn rename(&mut self) {
        let (org, name) = (self.any_org(), self.name());
        self.orgs.insert(org, name.clone());
        let (status, said) = self
            .ask(
                Method::PUT,
                format!("/orgs/{org}"),
                Some(json!({ "name": name })),
            )
            .await;
        assert_eq!((status, &said["name"]), (StatusCode::OK, &json!(name)));
    }

    /// Only the owner of a row knows what the answer has to be.
    async fn get_anothers(&mut self) {
        let (id, org) = (self.random.i64(1..150), self.random.i64(1..=2 * CLIENTS));
        self.ask(Method::GET, format!("/users/{id}"), None).await;
        self.ask(Method::GET, format!("/orgs/{org}/users"), None)
            .await;
    }

    async fn look_at_everything(&mut self) {
        for instance in 0..2 {
            for org in self.orgs.clone().into_keys() {
                for page in 0..4 {
                    let path = format!("/orgs/{org}/users?page={page}");
                    let answer = self
                        .service
                        .ask_at(instance, Method::GET, &path, None)
                        .await;
                    self.check(&path, answer, self.page(org, page));
                }
            }
            for id in self.ids.clone() {
                let path = format!("/users/{id}");
                let answer = self
                    .service
                    .ask_at(instance, Method::GET, &path, None)
                    .await;
                self.check(&path, answer, self.shown(id));
            }
        }
        let rows = sqlx::query_as("SELECT id, org_id, name, email FROM users");
        let rows: Vec<(i64, i64, String, String)> =
            rows.fetch_all(&self.service.db).await.expect("rows");
        let rows = rows
            .into_iter()
            .map(|(id, org, name, email)| (id, Row { org, name, email }));
        let own = rows.filter(|(_, row)| self.orgs.contains_key(&row.org));
        assert!(
            own.collect::<BTreeMap<_, _>>() == self.users,
            "the model is the database"
        );
    }

    async fn expect(
        &mut self,
        method: Method,
        path: String,
        body: Option<Value>,
        expected: (StatusCode, Option<Value>),
    ) {
        let what = format!("{method} {path} {body:?}");
        let answer = self.ask(method, path, body).await;
        self.check(&what, answer, expected);
    }

    /// No body is expected of an error but some.
    #[track_caller]
    fn check(
        &self,
        what: &str,
        (status, said): (StatusCode, Value),
        (expected, body): (StatusCode, Option<Value>),
    ) {
        let number = self.number;
        assert_eq!(status, expected, "client {number}: {what}: {said}");
        if let Some(body) = body {
            assert_eq!(said, body, "client {number}: {what}");
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        path: String,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let instance = self.random.usize(..2);
        self.service.ask_at(instance, method, &path, body).await
    }

    fn shown(&self, id: i64) -> (StatusCode, Option<Value>) {
        match self.users.get(&id) {
            Some(row) => (StatusCode::OK, Some(self.json(id, row))),
            None => (StatusCode::NOT_FOUND, None),
        }
    }

    fn shown_by_email(&self, email: &str) -> (StatusCode, Option<Value>) {
        let owner = self.users.iter().find(|(_, row)| row.email == email);
        owner.map_or((StatusCode::NOT_FOUND, None), |(&id, _)| self.shown(id))
    }

    fn page(&self, org: i64, page: usize) -> (StatusCode, Option<Value>) {
        let members = self.users.iter().filter(|(_, row)| row.org == org);
        let shown = members
            .skip(PAGE * page)
            .take(PAGE)
            .map(|(&id, row)| self.json(id, row));
        (StatusCode::OK, Some(shown.collect()))
    }

    fn json(&self, id: i64, Row { org, name, email }: &Row) -> Value {
        let org_name = &self.orgs[org];
        json!({ "id": id, "org_id": org, "org": org_name, "name": name, "email": email })
    }

    fn any_id(&mut self) -> i64 {
        self.ids[self.random.usize(..self.ids.len())]
    }

    fn any_email(&mut self) -> String {
        self.emails[self.random.usize(..self.emails.len())].clone()
    }

    fn any_org(&mut self) -> i64 {
        2 * self.number + self.random.i64(1..=2)
    }

    fn name(&mut self) -> String {
        format!("Name {}", self.random.u32(..))
    }

    fn new_email(&mut self) -> String {
        let email = format!("{}@client{}.example", self.random.u32(..), self.number);
        self.emails.push(email.clone());
        email
    }
}
