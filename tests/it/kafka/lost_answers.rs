//! The end of a transaction that is lost on its way to the broker, or whose answer is: nobody knows then whether the commit
//! counts, the next producer of the partition finds out, and every figure is right.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::BoxError;
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use gretchen::table::{Table, TableMut};
use gretchen::topic::TopicPartition;
use gretchen::worker;

use super::cluster::Cluster;
use super::here::Worker;
use super::stage::{PATIENCE, records_of};

/// Kafka's number of the request that ends a transaction.
const END_TXN: [u8; 2] = 26_u16.to_be_bytes();

static SUMS: Table<String, i64> = Table::new("lossy-sums").output("lossy-sums");

#[agent(topic = "lossy-in", table = SUMS)]
async fn sums(number: i64, mut sums: TableMut<'_, String, i64>) -> Result<(), BoxError> {
    sums.update("all", |sum| *sum += number)?;
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lose {
    Nothing,
    Request,
    Answer,
}

/// Hands on what clients and a broker say to each other, but for what it is told to lose, once.
struct Lossy {
    lose: Mutex<Lose>,
    lost: AtomicUsize,
}

/// Numbers of requests of a connection whose answers are to be lost.
type Held = Arc<Mutex<BTreeSet<[u8; 4]>>>;

impl Lossy {
    /// Each connection has two threads, which end with it.
    fn hand_on(self: &Arc<Self>, listener: &TcpListener, broker: &str) {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(broker).unwrap());
            let (mut to_client, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (mut from, mut to) = (client, server);
            let held = Held::default();
            let (lossy, of_requests) = (self.clone(), held.clone());
            std::thread::spawn(move || {
                let _ = lossy.requests(&mut from, &mut to, &of_requests);
                let _ = to.shutdown(Shutdown::Both);
            });
            let lossy = self.clone();
            std::thread::spawn(move || {
                let _ = lossy.answers(&mut answers, &mut to_client, &held);
                let _ = to_client.shutdown(Shutdown::Both);
            });
        }
    }

    fn requests(&self, from: &mut TcpStream, to: &mut TcpStream, held: &Held) -> std::io::Result<()> {
        loop {
            let request = next(from)?;
            if request[4..6] == END_TXN {
                match std::mem::replace(&mut *self.lose.lock().unwrap(), Lose::Nothing) {
                    Lose::Nothing => {}
                    Lose::Answer => {
                        held.lock().unwrap().insert(request[8..12].try_into().unwrap());
                    }
                    Lose::Request => {
                        self.lost.fetch_add(1, Ordering::SeqCst);
                        continue;
                    }
                }
            }
            to.write_all(&request)?;
        }
    }

    fn answers(&self, from: &mut TcpStream, to: &mut TcpStream, held: &Held) -> std::io::Result<()> {
        loop {
            let answer = next(from)?;
            if held.lock().unwrap().remove(&answer[4..8]) {
                self.lost.fetch_add(1, Ordering::SeqCst);
            } else {
                to.write_all(&answer)?;
            }
        }
    }
}

/// A request or an answer, with its length before it.
fn next(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut whole = vec![0; 4];
    from.read_exact(&mut whole)?;
    let length = u32::from_be_bytes(whole[..].try_into().unwrap());
    whole.resize(4 + length as usize, 0);
    from.read_exact(&mut whole[4..])?;
    Ok(whole)
}

async fn open(servers: &str) -> (Arc<dyn Backend>, Plan) {
    let kafka = KafkaBackend::open(KafkaOptions::new(servers), Clock::system()).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(WireLayer::new(Arc::new(kafka), Default::default()));
    let app = App::new("lossy").agent::<sums>();
    let plan = Plan::make(app.name(), &app.agents(), &*backend, 1).await.unwrap();
    (backend, plan)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_end_is_lost_counts_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cluster = Cluster::start_behind(address.port());
    let lossy = Arc::new(Lossy { lose: Mutex::new(Lose::Nothing), lost: AtomicUsize::new(0) });
    let (broker, handing_on) = (cluster.call(&["address", "behind"]), lossy.clone());
    std::thread::spawn(move || handing_on.hand_on(&listener, &broker));

    let (backend, plan) = open(&cluster.servers).await;
    let mut work = Worker::start(open(&address.to_string()).await);
    work.started().await;
    let mut publisher = Publisher::open(&backend, "lossy-in", None).await.unwrap();
    let clock = Clock::system();
    let caught_up = async || {
        let began = clock.moment();
        while !worker::caught_up(&plan, &*backend).unwrap() {
            assert!(clock.moment().since(began) < PATIENCE, "the worker does not catch up");
            clock.sleep(Duration::from_millis(50)).await;
        }
    };
    let mut sums = Vec::new();
    for (round, lose) in [Lose::Nothing, Lose::Answer, Lose::Request, Lose::Answer].into_iter().enumerate() {
        *lossy.lose.lock().unwrap() = lose;
        let mut wire = Vec::new();
        (1_i64 << round).encode_value(&mut wire).unwrap();
        publisher.push(Some(b"k"), Some(&wire), 1_000).await.unwrap();
        publisher.flush().await.unwrap();
        if lose != Lose::Nothing {
            println!("{lose:?} lost: {:?}", work.started().await);
        }
        caught_up().await;
        assert_eq!(lossy.lost.load(Ordering::SeqCst), round);
        sums.push((b"all".to_vec(), (1_i64 << (round + 1)) - 1));
    }
    work.stop.send(true).unwrap();
    let summary = work.work.await.unwrap();
    assert_eq!((summary.failed, summary.stuck), (0, 0));
    let replay = backend.replay().unwrap();
    let out: Vec<(Vec<u8>, i64)> = records_of(&*replay, &TopicPartition::new("lossy-sums", 0));
    assert_eq!(out, sums, "each number counts once, and each sum was put out once");
}
