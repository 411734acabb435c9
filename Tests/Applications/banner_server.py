"""A server that speaks first, as SMTP does: greets at once, answers HELO and QUIT. usage: banner_server.py PORT"""

import socketserver
import sys


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 mail.lab.example ready\r\n")
        for line in self.rfile:
            verb = line.strip().upper()
            if verb.startswith(b"HELO"):
                self.wfile.write(b"250 mail.lab.example\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return


class Server(socketserver.ThreadingTCPServer):
    address_family = 10
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


Server(("::", int(sys.argv[1])), Session).serve_forever()
