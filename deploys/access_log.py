"""The access log of nginx: one JSON object a request."""

PATH = "/var/log/nginx/access.log"
FIELDS = {
    "time": "$time_iso8601",
    "request_id": "$roadbed_request_id",
    "client": "$remote_addr",
    "method": "$request_method",
    "scheme": "$scheme",
    "host": "$host",
    "path": "$roadbed_path",
    "protocol": "$server_protocol",
    "encoding": "$sent_http_content_encoding",
    "referer": "$roadbed_referer",
    "user_agent": "$http_user_agent",
    "upstream": "$upstream_addr",
    "upstream_status": "$upstream_status",
    "upstream_connect_time": "$upstream_connect_time",
    "upstream_header_time": "$upstream_header_time",
    "upstream_response_time": "$upstream_response_time",
    "group": "$roadbed_upstream",
    "release": "$upstream_http_x_roadbed_release",
    "instance": "$upstream_http_x_roadbed_instance",
    "cache": "$upstream_http_x_nextjs_cache",
    "edge": "$upstream_cache_status",
    "tls": "$ssl_protocol",
}
"""Access log: names and variables written as JSON strings. Queries are left out: they carry tokens."""
NUMBERS = {"status": "$status", "bytes": "$bytes_sent", "seconds": "$request_time", "received": "$request_length"}
