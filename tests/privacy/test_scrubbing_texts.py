"""What is found in a text and what isn't: the table of cases, both ways."""

import pytest

from privacy.scrubbing import is_clean, scrub_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
INGEST_KEY = "ingest_0123456789ab_" + "aB3-" * 10 + "xyz"

FOUND = {
    "e-mail": {
        "alice@example.com": "[email]",
        "mail alice@example.com now": "mail [email] now",
        "<alice@example.com>": "<[email]>",
        "Alice.B+tag@Mail.Example.CO.UK": "[email]",
        "o'brien_99%x@ex-ample.museum": "[email]",
        "user=alice@example.com&x=1": "user=[email]&x=1",
        "mailto:alice@example.com?subject=x": "mailto:[email]?subject=x",
        "a@b.io,c@d.io": "[email],[email]",
        "alice@corp.internal": "[email]",
        "alice@163.com": "[email]",
        "alice@xn--bcher-kva.example": "[email]",
        "jürgen@müller.de": "[email]",
        "иван@пример.рф": "[email]",
        "Sent to alice@example.com.": "Sent to [email].",
        r"line\nalice@example.com": r"line\[email]",
        "\talice@example.com\n": "\t[email]\n",
        "alice@host.example.com:/srv/backup": "[email]:/srv/backup",
    },
    "IPv4": {
        "10.0.0.1": "[ip]",
        "from 203.0.113.7:5432": "from [ip]:5432",
        "http://192.168.1.20/x": "http://[ip]/x",
        "192.168.1.0/24": "[ip]/24",
        "10.0.0.1-10.0.0.9": "[ip]-[ip]",
        "lost 10.1.2.3.": "lost [ip].",
        "db.example.com/10.1.2.3:5432": "db.example.com/[ip]:5432",
        r"peers:\n10.1.2.3\t10.1.2.4": r"peers:\n[ip]\t[ip]",
        "(8.8.8.8)": "([ip])",
        "::ffff:10.1.2.3": "[ip]",
    },
    "IPv6": {
        "2001:db8::1": "[ip]",
        "[2001:db8::1]:443": "[[ip]]:443",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334": "[ip]",
        "FE80::1%eth0": "[ip]",
        "fd12:3456:789a::1/48": "[ip]/48",
        "addr:2001:db8::1: timed out": "addr:[ip]: timed out",
        "2001:db8::": "[ip]",
        "64:ff9b::c000:221": "[ip]",
        "::ffff:c0a8:0101": "[ip]",
        "2001:db8::10.1.2.3": "[ip]",
    },
    "MAC": {
        "00:1A:2b:3c:4d:5e": "[mac]",
        "on 00-1a-2b-3c-4d-5e up": "on [mac] up",
    },
    "card": {
        "4111111111111111": "[card]",
        "4111 1111 1111 1111": "[card]",
        "4111-1111-1111-1111 12/27": "[card] 12/27",
        "4111+1111+1111+1111": "[card]",
        "4222222222222": "[card]",
        "5555555555554444": "[card]",
        "2223003122003222": "[card]",
        "378282246310005": "[card]",
        "3782 822463 10005": "[card]",
        "6011111111111117": "[card]",
        "30569309025904": "[card]",
        "3530111333300000": "[card]",
        "6200000000000005": "[card]",
        "6205 5000 0000 0000 004": "[card]",
        "6304000000000000": "[card]",
        "pay 4111 1111 1111 1111 123 ok": "pay [card] 123 ok",
        "5100 4111 1111 1111 1111": "5100 [card]",
        "No.4111111111111111": "No.[card]",
        r"x\n4111111111111111": r"x\n[card]",
        '{"n":4111111111111111}': '{"n":"[card]"}',
    },
    "token": {
        JWT: "[token]",
        f"got {JWT}!": "got [token]!",
        "Bearer abc123def456": "Bearer [token]",
        "bearer  ya29-long_token.9": "bearer  [token]",
        "Basic YWxpY2U6c2VjcmV0": "Basic [token]",
    },
    "key": {
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc": "[key]",
        "sk-proj-abcdefghijklmnop1234": "[key]",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a": "[key]",
        "github_pat_11ABCDEFG0abcdefghij_klm": "[key]",
        "glpat-abcdefghij0123456789": "[key]",
        "xoxb-123456789012-abcdefGHIJ": "[key]",
        "AKIAIOSFODNN7EXAMPLE": "[key]",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv": "[key]",
        "ya29.a0AfH6SMBx1234567890abc": "[key]",
        "SG.abcdefghijklmnop1234.qrstuvwxyz0123456789ab": "[key]",
        "npm_abcdefghijklmnopqrstuvwxyz0123456789": "[key]",
        "hf_abcdefghijklmnopqrstuvwxyz01234567": "[key]",
        "dop_v1_" + "0123456789abcdef" * 4: "[key]",
        INGEST_KEY: "[key]",
        INGEST_KEY.replace("ingest", "secret"): "[key]",
        "/v1/events?key=ingest-1234567890": "/v1/events?key=[key]",
        PEM: "[key]",
        f"a\n{PEM}\nb": "a\n[key]\nb",
        PEM[:60]: "[key]",
        PEM.replace("\n", r"\n"): "[key]",
    },
    "secret": {
        "password=hunter2": "password=[secret]",
        "Password: hunter2": "Password: [secret]",
        "?a=1&api_key=abc&b=2": "?a=1&api_key=[secret]&b=2",
        "db_password = 'my pass'": "db_password = '[secret]'",
        "PWD=hunter2;Server=x": "PWD=[secret];Server=x",
        "token=abcdef0123": "token=[secret]",
        "access_token: ab12cd34ef": "access_token: [secret]",
        "Authorization: Bearer abcdefgh": "Authorization: [secret]",
        "x-api-key: abc": "x-api-key: [secret]",
        "Cookie: a=b; c=d": "Cookie: [secret]",
        "Set-Cookie: sid=1; Path=/": "Set-Cookie: [secret]",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG": "aws_secret_access_key = [secret]",
        ":password => 'x1'": ":password => '[secret]'",
        r"{\"password\":\"hunter2\"}": r"{\"password\":\"[secret]\"}",
        '{"password": "hunter2"}': '{"password":"[secret]"}',
        'x {"client_secret": "s3"} y': 'x {"client_secret": "[secret]"} y',
        "user_id=u-1234, ok": "user_id=[subject], ok",
        "sessionId: s-1": "sessionId: [session]",
    },
    "credentials": {
        "https://bob:pa55@example.com/x": "https://[credentials]@example.com/x",
        "postgres://u:p@db/app": "postgres://[credentials]@db/app",
        "https://ghtoken@github.com/o/r": "https://[credentials]@github.com/o/r",
        "amqp://u:p@ss@mq:5672": "amqp://[credentials]@mq:5672",
        r"https:\/\/bob:pa55@example.com": r"https:\/\/[credentials]@example.com",
    },
    "phone": {
        "+49 30 1234567": "[phone]",
        "+1-415-555-2671": "[phone]",
        "+14155552671": "[phone]",
        "+44 (0)20 7946 0958": "[phone]",
        "+33 1 42 68 53 00": "[phone]",
        "(415) 555-2671": "[phone]",
        "(415)555-2671": "[phone]",
        "415-555-2671": "[phone]",
        "1-415-555-2671": "[phone]",
        "call 415-555-2671.": "call [phone].",
        "tel:+1-415-555-2671": "tel:[phone]",
        "tel:555-2671": "tel:[phone]",
    },
    "user": {
        "/home/alice": "/home/[user]",
        "/home/alice/x.wav": "/home/[user]/x.wav",
        "File '/home/alice/app.py', line 3": "File '/home/[user]/app.py', line 3",
        "/Users/alice/Library": "/Users/[user]/Library",
        "/var/home/alice/x": "/var/home/[user]/x",
        "/mnt/c/Users/alice/x": "/mnt/c/Users/[user]/x",
        r"C:\Users\alice\AppData": r"C:\Users\[user]\AppData",
        r"C:\Users\John Doe\AppData": r"C:\Users\[user]\AppData",
        r"C:\Users\John Doe": r"C:\Users\[user]",
        r"in C:\Users\alice was": r"in C:\Users\[user] was",
        r"C:\\Users\\alice\\x": r"C:\\Users\\[user]\\x",
        "c:/users/alice/x": "c:/users/[user]/x",
        r"\\nas\Users\alice\x": r"\\nas\Users\[user]\x",
        r"C:\Documents and Settings\alice\x": r"C:\Documents and Settings\[user]\x",
        "file:///home/alice/x": "file:///home/[user]/x",
        "http://localhost:5173/@fs/home/alice/x": "http://localhost:5173/@fs/home/[user]/x",
        "/home/алиса/x": "/home/[user]/x",
    },
    "escaped": {
        "alice%40example.com": "[email]",
        "%61lice%40example%2Ecom": "[email]",
        "alice%2540example.com": "[email]",
        "alice%25252540example.com": "[email]",
        "https://x.example/?q=alice%40example.com&r=a%20b": "https://x.example/?q=[email]&r=a b",
        r"alice\u0040example.com": "[email]",
        r"alice\\\\u0040example.com": "[email]",
        r"alice\x40example.com": "[email]",
        r"\u0025\u0034\u0030@alice%2540example.com": "@@[email]",
        "/home%2Falice": "/home/[user]",
        "4111%201111%201111%201111": "[card]",
        '["alice\\u0040example.com"]': '["[email]"]',
        "alice＠example．com": "[email]",
        "４１１１１１１１１１１１１１１１": "[card]",
        "ali\u200bce@exa\u00admple.com": "[email]",
        "alice%" + "25" * 30 + "40example.com": "[email]",
        r"\u005cu005cu005cu005cu005cu005cu0040": "[escaped]",
    },
}  # fmt: skip

CLEAN = {
    "versions": [
        "1.2.3", "2.14.3", "v1.2.3.4", "1.2.3.4.5", "10.0.19045.1234", "version 1.2.3.4",
        "Version=1.2.3.4, Culture=neutral", "build: 1.2.3.4", "1.2.3.4-beta", "1.2.3.4rc1",
        "1.2.3+20130313144700", "Chrome/120.0.0.0 Safari/537.36", "MyApp/1.2.3.4", "4.0.0.0",
        "lodash@4.17.21", "@angular/core@12.0.0", "react@18.2.0-beta.rc", "1.3.6.1.4.1.311",
    ],
    "ids": [
        "550e8400-e29b-41d4-a716-446655440000", "12345678-4111-4111-8111-111111111111",
        "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}", "e6c3f3391a2b8f1ff1fd42a2", "4111111111111111a",
        "a4111111111111111", "d41d8cd98f00b204e9800998ecf8427e",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "pod-7d4b9c6f5-x2x9z", "arn:aws:iam::123456789012:role/x", "4111111111111112",
        "1234567812345678", "SN-415-555-2671", "9007199254740993", "7fffffffffffffff",
        "412345678901234567", "4000000000000000006",
    ],
    "numbers": [
        "0.4111111111111111", "4.111111111111111e15", "3.141592653589793", "0.30000000000000004",
        "1795257000000", "1795257000000000", "1795257000000000000", "+1234567", "-5", "1e+22",
        "12 345 678 901 234", "$4,111,111.11", "256-512", "100%", "50%-75%", "+02:00",
    ],
    "times": [
        "2026-11-20", "2026-11-20T10:30:00Z", "2026-11-20T10:30:00.123456+00:00", "12:34:56",
        "2026:11:20 10:30:00", "10:30:00:123", "26-11-20-10-30-00", "P3DT12H30M5S", "20261120",
        "Fri, 20 Nov 2026 10:30:00 GMT",
    ],
    "addresses of no one": [
        "127.0.0.1:8000", "0.0.0.0", "255.255.255.0", "224.0.0.251", "::", "::1", "localhost",
        "00:00:00:00:00:00", "ff-ff-ff-ff-ff-ff", "256.1.1.1", "1.2.3", "1.2.3.04",
        "aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99",
    ],
    "code": [
        "std::vector<int>", "a::b", "dead::beef", "abc::def::1", "@decorator", "icon@2x.png",
        "@2x", "user@host", "git@github.com:org/repo.git", "ssh://git@github.com/org/repo",
        "https://medium.com/@alice", "foo @bar", "List<@NonNull String>", "a@b", "x@y.z",
        "Object@1b2c3d", "for(;;)", "SELECT * FROM t WHERE a=1", "*/5 * * * *", "%d%%", "C:\\Temp",
        "C:\\new\\table", "\\d+", "&amp;", "key=value", "keyboard: qwerty", "x ? y : z",
    ],
    "paths": [
        "/home/", "/home", "/Users/Shared/x", "C:\\Users\\Public\\x", "/home/runner/work/x",
        "/home/.cache", "https://example.com/home/garden", "/usr/share/x", "/api/users/123",
        "C:\\Users\\All Users\\x", "https://example.com/a?b=c#d", "https://example.com:8080/@x/y",
        "s3://bucket/key", "/home/$USER/x", "user/homes/x",
    ],
    "words": [
        "token: expired", "Unexpected token: }", "tokens: 512", "max_token=4096",
        "basic functionality", "bearer of news", "password_changed", "no password", "secretary=x",
        "password: null", "task-scheduler-with-a-long-name-1", "ASIA-PACIFIC-SOUTHEAST-1",
        "hotel:12345678", "microphone: x", "npm_config_registry_url", "hf_transformer_model_name",
        "public key", "-----BEGIN CERTIFICATE-----", "user id", "eyJust", "cookies accepted",
        "Ableton Live 11", "macOS 14.5", "Windows 11 23H2", "日本語のテキスト",
        "ｆｕｌｌ　ｗｉｄｅ",
    ],
    "markers": [
        "[email]", "[email:0123456789abcdef]", "to [email] at [ip:00000000deadbeef]",
        "password=[secret]", "token: [secret:0123456789abcdef]", "Cookie: [secret]",
        "https://[credentials]@host", "/home/[user]/x", "C:\\Users\\[user]", "[escaped]",
        "Authorization: [secret:0123456789abcdef]", "user_id=subject:" + "0" * 32,
        "Bearer [token:0123456789abcdef]", "[token]: rejected, code 12345678",
    ],
}  # fmt: skip


def cases() -> list:
    return [
        pytest.param(text, expected, id=f"{kind}: {text[:40]!a}")
        for kind, found in FOUND.items()
        for text, expected in found.items()
    ]


def clean_cases() -> list:
    return [
        pytest.param(text, id=f"{kind}: {text[:40]!a}")
        for kind, texts in CLEAN.items()
        for text in texts
    ]


@pytest.mark.parametrize(("text", "expected"), cases())
def test_it_is_found(text: str, expected: str):
    assert scrub_text(text) == expected


@pytest.mark.parametrize(("text", "expected"), cases())
def test_the_first_scan_sees_whatever_is_found(text: str, expected: str):
    assert not is_clean(text)


@pytest.mark.parametrize("text", clean_cases())
def test_it_is_left_alone(text: str):
    assert scrub_text(text) == text
