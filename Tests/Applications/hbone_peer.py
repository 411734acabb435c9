"""A tunnel peer that no one here wrote the HTTP/2 of: python3-h2 over OpenSSL, for what a peer may do right or wrong.

usage: hbone_peer.py request --to HOST[:PORT] [--certificate CHAIN --key KEY] [--trust CA] [--principal URI | --sni NAME]
                             [--authority ADDRESS:PORT] [--say TEXT] [--tls 1.2]
       hbone_peer.py plain --to HOST[:PORT] --say TEXT
       hbone_peer.py serve --at HOST[:PORT] --certificate CHAIN --key KEY --trust CA [--answer TEXT]

Prints one line of JSON: request {tls, server, status, data, end}, plain {data, end}. `serve` answers every CONNECT with
200 and TEXT, and says a line of JSON for each connection.
"""

import argparse
import errno
import hashlib
import json
import socket
import ssl
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

TUNNEL_PORT = 15008


def host_and_port(text):
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port[1:] or TUNNEL_PORT)
    if text.count(":") > 1:
        return text, TUNNEL_PORT
    host, _, port = text.partition(":")
    return host, int(port or TUNNEL_PORT)


def server_name(principal):
    return f"p-{hashlib.sha256(principal.encode()).hexdigest()[:32]}.culvert.internal"


def principal_of(tls):
    certificate = tls.getpeercert()
    names = (certificate or {}).get("subjectAltName", ())
    return next((value for kind, value in names if kind == "URI"), None)


def name_of(error):
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, TimeoutError):
        return "timeout"
    return errno.errorcode.get(error.errno, str(error))


def client_context(arguments):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if arguments.trust else ssl.CERT_NONE
    if arguments.trust:
        context.load_verify_locations(arguments.trust)
    if arguments.tls == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([arguments.alpn])
    if arguments.certificate:
        context.load_cert_chain(arguments.certificate, arguments.key)
    return context


def configuration(client_side):
    """The library's own header checks know no CONNECT without a path: they are off, the frames are as ever."""
    return h2.config.H2Configuration(
        client_side=client_side,
        header_encoding="utf-8",
        validate_outbound_headers=False,
        validate_inbound_headers=False,
    )


def request(arguments):
    result = {"tls": None, "server": None, "status": None, "data": "", "end": None}
    name = server_name(arguments.principal) if arguments.principal else arguments.sni
    try:
        raw = socket.create_connection(host_and_port(arguments.to), timeout=arguments.timeout)
        with client_context(arguments).wrap_socket(raw, server_hostname=name) as tls:
            result["tls"] = tls.version()
            result["server"] = principal_of(tls)
            converse(tls, arguments, result)
    except OSError as error:
        result["end"] = name_of(error)
    return result


def converse(tls, arguments, result):
    connection = h2.connection.H2Connection(configuration(client_side=True))
    connection.initiate_connection()
    connection.send_headers(1, [(":method", "CONNECT"), (":authority", arguments.authority)])
    tls.sendall(connection.data_to_send())
    while result["end"] is None:
        data = tls.recv(1 << 16)
        if not data:
            result["end"] = "eof"
            return
        for event in connection.receive_data(data):
            take(event, connection, arguments, result)
        tls.sendall(connection.data_to_send())


def take(event, connection, arguments, result):
    if isinstance(event, h2.events.ResponseReceived):
        result["status"] = int(dict(event.headers)[":status"])
        if result["status"] == 200 and arguments.say:
            connection.send_data(1, arguments.say.encode().decode("unicode_escape").encode(), end_stream=True)
    elif isinstance(event, h2.events.DataReceived):
        result["data"] += event.data.decode(errors="replace")
        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, h2.events.StreamEnded):
        result["end"] = "end_stream"
    elif isinstance(event, h2.events.StreamReset):
        result["end"] = f"reset {h2.errors.ErrorCodes(event.error_code).name}"
    elif isinstance(event, h2.events.ConnectionTerminated):
        result["end"] = f"goaway {h2.errors.ErrorCodes(event.error_code).name}"


def plain(arguments):
    result = {"data": "", "end": None}
    try:
        with socket.create_connection(host_and_port(arguments.to), timeout=arguments.timeout) as connection:
            connection.sendall(arguments.say.encode().decode("unicode_escape").encode())
            while data := connection.recv(4096):
                result["data"] += data.decode(errors="replace")
        result["end"] = "eof"
    except OSError as error:
        result["end"] = name_of(error)
    return result


def serve(arguments):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.certificate, arguments.key)
    context.load_verify_locations(arguments.trust)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    host, port = host_and_port(arguments.at)
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=64)
    print(json.dumps({"listening": port}), flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=serve_one, args=(context, raw, arguments), daemon=True).start()


def serve_one(context, raw, arguments):
    try:
        with context.wrap_socket(raw, server_side=True) as tls:
            print(json.dumps({"tls": tls.version(), "client": principal_of(tls)}), flush=True)
            connection = h2.connection.H2Connection(configuration(client_side=False))
            connection.initiate_connection()
            tls.sendall(connection.data_to_send())
            while data := tls.recv(1 << 16):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        connection.send_headers(event.stream_id, [(":status", "200")])
                        connection.send_data(event.stream_id, arguments.answer.encode(), end_stream=True)
                tls.sendall(connection.data_to_send())
    except (OSError, h2.exceptions.ProtocolError) as error:
        print(json.dumps({"error": str(error)}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["request", "plain", "serve"])
    for name in ("to", "at", "certificate", "key", "trust", "principal", "sni", "authority", "say", "tls"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--alpn", default="h2")
    parser.add_argument("--answer", default="answer from the peer\n")
    parser.add_argument("--timeout", type=float, default=15)
    arguments = parser.parse_args()
    if arguments.role == "serve":
        serve(arguments)
    else:
        print(json.dumps(request(arguments) if arguments.role == "request" else plain(arguments)), flush=True)


main()
