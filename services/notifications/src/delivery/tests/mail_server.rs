//! A mail server on a loopback socket: as much of SMTP as a client needs to deliver.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Takes mails, after turning away the first few.
pub struct MailServer {
    port: u16,
    mails: mpsc::UnboundedReceiver<String>,
}

impl MailServer {
    /// Starts it; it turns away `refusals` mails with "try again later".
    pub async fn start(refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, mails) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut refusals = refusals;
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &mut refusals, &sender).await;
            }
        });
        Self { port, mails }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The next mail: the client's commands and the text.
    pub async fn next(&mut self) -> String {
        self.mails.recv().await.expect("the server runs")
    }
}

/// One connection, until the client leaves.
async fn serve(stream: TcpStream, refusals: &mut usize, mails: &mpsc::UnboundedSender<String>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let (mut mail, mut in_text, mut greeting) = (String::new(), false, Some("220 test"));
    loop {
        if let Some(answer) = greeting.take() {
            writer.write_all(format!("{answer}\r\n").as_bytes()).await.expect("the client listens");
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        mail.push_str(&line);
        mail.push('\n');
        greeting = match line.split(' ').next().unwrap_or_default() {
            "." if in_text => {
                in_text = false;
                let _ = mails.send(std::mem::take(&mut mail));
                Some("250 taken")
            }
            _ if in_text => None,
            "RCPT" if *refusals > 0 => {
                *refusals -= 1;
                mail.clear();
                Some("450 try again later")
            }
            "DATA" => {
                in_text = true;
                Some("354 go on")
            }
            "QUIT" => Some("221 bye"),
            _ => Some("250 test"),
        };
    }
}
