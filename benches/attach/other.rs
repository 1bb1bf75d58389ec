//! Another client of the same Redis, in a process of its own: it asks for something every millisecond, one question
//! after the other, and says how long 99 of 100 took since it was asked last.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::redis_server::Redis;

/// The hidden argument that makes the benchmark's binary this process.
pub(crate) const ARGUMENT: &str = "--other-client";

const PACE: Duration = Duration::from_millis(1);
const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$5\r\nother\r\n$1\r\n1\r\n";
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$5\r\nother\r\n";

/// The process, as its parent has it; killed on drop.
pub(crate) struct Other {
    child: Child,
    asking: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    pub(crate) fn start(redis: &Redis) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args([ARGUMENT, &redis.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (asking, answers) = (child.stdin.take(), child.stdout.take());
        let missing = || io::Error::other("no pipe");
        Ok(Self {
            child,
            asking: asking.ok_or_else(missing)?,
            answers: BufReader::new(answers.ok_or_else(missing)?),
        })
    }

    /// How long 99 of 100 questions took, at most, since this was called last.
    pub(crate) fn p99_us(&mut self) -> io::Result<f64> {
        self.asking.write_all(b"\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself; ends with its standard input.
pub(crate) fn serve(port: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_nodelay(true)?;
    let (sender, asked) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for _ in io::stdin().lines().map_while(Result::ok) {
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    let mut took = Vec::new();
    loop {
        for (question, answer_len) in [(SET, "+OK\r\n".len()), (GET, "$1\r\n1\r\n".len())] {
            let began = Instant::now();
            stream.write_all(question)?;
            let mut answer = vec![0; answer_len];
            stream.read_exact(&mut answer)?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
            thread::sleep(PACE);
        }
        match asked.try_recv() {
            Ok(()) => {
                took.sort_by(f64::total_cmp);
                let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(f64::NAN);
                writeln!(io::stdout(), "{p99}")?;
                took.clear();
            }
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}
