//! Opens a connection: the transport, the login, and the settings of its session.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::net::TcpStream;

use super::server_error::ServerError;
use super::{Wire, tls};
use crate::database::login::{self, Login};

impl Wire {
    /// Connects and logs in.
    pub(in crate::database) async fn connect(login: &Login) -> Result<Self, sqlx::Error> {
        let stream = match login::socket(&login.options) {
            #[cfg(unix)]
            Some(path) => tls::secured(tokio::net::UnixStream::connect(path).await?, login).await?,
            #[cfg(not(unix))]
            Some(_) => return Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
            None => {
                let stream = TcpStream::connect((login.host(), login.options.get_port())).await?;
                // A message is written as a whole, so the operating system need not wait for more (TCP_NODELAY).
                stream.set_nodelay(true)?;
                tls::secured(stream, login).await?
            }
        };
        let mut wire = Self::of(stream);
        wire.begin(login).await?;
        Ok(wire)
    }

    async fn begin(&mut self, login: &Login) -> Result<(), sqlx::Error> {
        let options = &login.options;
        let mut parameters = vec![("user", options.get_username())];
        // The same parameters as the driver's.
        parameters.extend([("DateStyle", "ISO, MDY"), ("client_encoding", "UTF8"), ("TimeZone", "UTC")]);
        parameters.extend(options.get_database().map(|database| ("database", database)));
        parameters.extend(options.get_application_name().map(|name| ("application_name", name)));
        parameters.extend(options.get_options().map(|options| ("options", options)));
        self.queue(|bytes| frontend::startup_message(parameters, bytes))?;
        let mut scram = None;
        loop {
            match self.message().await? {
                Message::AuthenticationOk | Message::BackendKeyData(_) => {}
                Message::AuthenticationCleartextPassword => {
                    self.queue(|bytes| frontend::password_message(password(login), bytes))?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(options.get_username().as_bytes(), password(login), body.salt());
                    self.queue(|bytes| frontend::password_message(hash.as_bytes(), bytes))?;
                }
                Message::AuthenticationSasl(body) => {
                    let scram = scram.insert(begun(&body, login)?);
                    self.queue(|bytes| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), bytes))?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    let scram: &mut ScramSha256 = scram.as_mut().ok_or_else(unexpected)?;
                    scram.update(body.data())?;
                    self.queue(|bytes| frontend::sasl_response(scram.message(), bytes))?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(unexpected)?.finish(body.data())?;
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(body) => return Err(ServerError::of(&body)?.into()),
                _ => return Err(unexpected()),
            }
        }
    }

    /// Queues a message: it is sent with the next wait for an answer.
    fn queue(&mut self, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<(), sqlx::Error> {
        let mut bytes = BytesMut::new();
        write(&mut bytes)?;
        self.send(bytes, 0);
        Ok(())
    }
}

fn password(login: &Login) -> &[u8] {
    login.password.as_deref().unwrap_or_default().as_bytes()
}

fn begun(body: &AuthenticationSaslBody, login: &Login) -> Result<ScramSha256, sqlx::Error> {
    if !body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256))? {
        return Err(sqlx::Error::Protocol("unsupported SASL authentication mechanisms".to_owned()));
    }
    Ok(ScramSha256::new(password(login), ChannelBinding::unsupported()))
}

fn unexpected() -> sqlx::Error {
    sqlx::Error::Protocol("the server requires an authentication method that is not supported".to_owned())
}
