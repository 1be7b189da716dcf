//! A gate before the registry, as operators put one there: it asks who comes, and it can be shut.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// Whom a gate lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open = 0,
    /// Whoever comes is turned away without a word.
    Shut = 1,
    /// What would change something is told to come later.
    ReadOnly = 2,
}

#[derive(Clone)]
pub(super) struct Gate {
    address: String,
    way: Arc<AtomicU8>,
    /// The `authorization` that it asks for.
    asks: Arc<Mutex<Option<String>>>,
}

impl Gate {
    pub(super) fn new(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, path) = super::address().strip_prefix("http://").unwrap().split_once('/').unwrap();
        let address = format!("http://{}/{path}", listener.local_addr().unwrap());
        let gate = Self { address, way: Arc::new(AtomicU8::new(way as u8)), asks: Arc::default() };
        let (own, host) = (gate.clone(), host.to_owned());
        std::thread::spawn(move || {
            for comer in listener.incoming() {
                let (own, host) = (own.clone(), host.clone());
                // Who goes away before there is an answer is no trouble of the gate's.
                std::thread::spawn(move || own.pass(comer?, &host));
            }
        });
        gate
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn set(&self, way: Way) {
        self.way.store(way as u8, Ordering::SeqCst);
    }

    /// Lets only those pass who send this.
    pub(super) fn ask_for(&self, authorization: &str) {
        *self.asks.lock().unwrap() = Some(authorization.to_owned());
    }

    /// One request and its answer.
    fn pass(&self, mut comer: TcpStream, host: &str) -> std::io::Result<()> {
        let way = self.way.load(Ordering::SeqCst);
        if way == Way::Shut as u8 {
            return Ok(());
        }
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        let head = loop {
            if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match comer.read(&mut chunk)? {
                0 => return Ok(()),
                some => request.extend_from_slice(&chunk[..some]),
            }
        };
        let text = String::from_utf8_lossy(&request[..head]).into_owned();
        let header = |name: &str| {
            text.lines().filter_map(|line| line.split_once(": ")).find(|(have, _)| have.eq_ignore_ascii_case(name))
        };
        let length = header("content-length").map_or(0, |(_, length)| length.parse::<usize>().unwrap());
        while request.len() < head + length {
            let some = comer.read(&mut chunk)?;
            request.extend_from_slice(&chunk[..some]);
        }
        let asks = self.asks.lock().unwrap().clone();
        if asks.is_some_and(|asks| header("authorization").is_none_or(|(_, sent)| sent != asks)) {
            return answer(&mut comer, "401 Unauthorized", "{\"error_code\":40101,\"message\":\"who are you?\"}");
        }
        if way == Way::ReadOnly as u8 && !text.starts_with("GET ") {
            return answer(&mut comer, "503 Service Unavailable", "<html>later</html>");
        }
        let mut registry = TcpStream::connect(host)?;
        let kept: String = text
            .lines()
            .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        registry.write_all(format!("{kept}connection: close\r\n\r\n").as_bytes())?;
        registry.write_all(&request[head..])?;
        std::io::copy(&mut registry, &mut comer)?;
        Ok(())
    }
}

fn answer(comer: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(comer, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}
