"""Publishes through one proxy and hears it through another, as any program with paho-mqtt would."""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE = 60
sending_port, receiving_port, version = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
protocol = mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311


def connect(port, **callbacks):
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    for name, callback in callbacks.items():
        setattr(client, name, callback)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


heard, subscribed, answers = queue.Queue(), queue.Queue(), queue.Queue()
listener = connect(
    receiving_port,
    on_connect=lambda client, *_: client.subscribe([(f"plant/{version}/+/temp", 1), (f"plant/{version}/bytes", 2)]),
    on_subscribe=lambda client, userdata, mid, codes, properties: subscribed.put([code.value for code in codes]),
    on_message=lambda client, userdata, message: heard.put(message),
)
assert subscribed.get(timeout=PATIENCE) == [1, 1]
speaker = connect(
    sending_port,
    on_publish=lambda client, userdata, mid, code, properties: answers.put((mid, code.value)),
)

# Topics of their own: what the last run did not acknowledge in time waits for the next subscriber.
everything = bytes(range(256)) * 100
sent = [(f"plant/{version}/{n}/temp", f"{n}.5 °C".encode(), n % 3) for n in range(30)] + [(f"plant/{version}/bytes", everything, 1), (f"plant/{version}/bytes", b"", 1)]
for topic, payload, qos in sent:
    speaker.publish(topic, payload, qos).wait_for_publish(PATIENCE)
for topic, payload, _ in sent:
    message = heard.get(timeout=PATIENCE)
    assert (message.topic, message.payload, message.qos) == (topic, payload, 1), message.topic
    assert not message.retain
    if version == "5":
        assert dict(message.properties.UserProperty)["peer"] == "press-7"

if version == "5":
    while not answers.empty():
        answers.get()
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("peer", "gateway")
    properties.ContentType = "application/json"
    properties.CorrelationData = b"\x00\xff"
    properties.ResponseTopic = "plant/answers"
    speaker.publish(f"plant/{version}/bytes", b"{}", 1, properties=properties)
    told = heard.get(timeout=PATIENCE).properties
    assert (told.ContentType, told.CorrelationData, told.ResponseTopic) == ("application/json", b"\x00\xff", "plant/answers")
    answers.get(timeout=PATIENCE)
    refused = speaker.publish("office/x", b"x", 1)
    assert answers.get(timeout=PATIENCE) == (refused.mid, 0x87)

speaker.disconnect()
listener.disconnect()
print("ok")
