//! Two devices of one authority on a broker of this machine: README.md shows this file and says how to make the devices.

use pqc_iiot_core::{endpoint::Event, envelope::Content};
use pqc_iiot_mqtt::{ClientEvent, Events, SecureMqttClient, transport::TransportOptions};
use pqc_iiot_provider::software::Unlock;

type Error = Box<dyn std::error::Error>;

async fn open(name: &str) -> Result<(SecureMqttClient, Events), Error> {
    let unlock = Unlock::from_key_file(format!("{name}.key").as_ref())?;
    let broker = TransportOptions::new("mqtt://localhost".parse()?, name);
    let (client, mut events) = SecureMqttClient::new(name, &unlock, broker).await?;
    loop {
        match events.recv().await {
            Some(ClientEvent::Connected { .. }) => return Ok((client, events)),
            Some(ClientEvent::Disconnected { error }) => eprintln!("{name} waits for the broker: {error}"),
            Some(_) => {}
            None => return Err("the client has ended".into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (gateway, mut inbox) = open("gateway").await?;
    gateway.add_peer("press-7".parse()?).await?;
    gateway.subscribe(&"plant/#".parse()?).await?;

    let (press, mut events) = open("press-7").await?;
    press.add_peer("gateway".parse()?).await?;
    while let Some(event) = events.recv().await {
        if matches!(event, ClientEvent::Protocol(Event::PeerReady { .. })) {
            break;
        }
    }
    press.publish_encrypted(&"plant/temp".parse()?, &"gateway".parse()?, Content::telemetry("21.5")).await?;

    while let Some(event) = inbox.recv().await {
        let ClientEvent::Protocol(Event::Message(message)) = event else { continue };
        let text = String::from_utf8_lossy(&message.content.payload);
        println!("{} on {}: {text}", message.peer, message.topic);
        inbox.done(); // or it is told again at the next start
        break;
    }
    press.shutdown().await;
    gateway.shutdown().await;
    Ok(())
}
