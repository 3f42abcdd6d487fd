"""How the names of keys end that hold personal data or secrets. Pure."""

# Kind -> how a key's name ends whose value is of that kind, whatever it looks like. A space stands
# for any separator or none. Names that as often hold something harmless aren't here: key, user,
# login, host, address, mobile, pin, uid, latitude.
_NAMES = {
    "secret": "password, passwords, passwd, passphrase, passcode, pwd, secret, api key, access key,"
    " secret key, private key, signing key, encryption key, account key, session key, license key,"
    " licence key, token, access token, api token, auth token, csrf token, device token, id token,"
    " push token, refresh token, session token, authorization, credential, credentials, cookie,"
    " cookies, connection string, security answer, jwt, otp, totp",
    "card": "credit card, debit card, card number, cc number, security code, cvv, cvc",
    "account": "iban, account number, bank account, routing number",
    "identity": "ssn, social security, social security number, national id, passport,"
    " passport number, tax id, driver license, drivers license, driving licence",
    "email": "email, emails, e mail, user email, email address, mail address",
    "phone": "phone, phones, phone number, phone numbers, telephone, telephone number,"
    " mobile number, fax number, msisdn",
    "ip": "ip, ip address, ip addresses, ip addr, client ip, remote ip, user ip, client address,"
    " remote address, remote addr, peer address, forwarded for",
    "mac": "mac address, mac addr",
    "name": "first name, last name, full name, given name, family name, middle name, maiden name,"
    " real name, surname, user name, nick name, customer name, contact name",
    "address": "street, street address, home address, postal address, mailing address,"
    " billing address, shipping address, delivery address, address line",
    "birth": "date of birth, birth date, birth day, dob",
}
# A control character of JSON text, or of JSON within a string.
CONTROL = r"\\[bfnrt]|\\u00[01][0-9a-f]"


def _spelt(names: str) -> str:
    """A pattern of what ends with one of `names`, in any case.

    A short name must be a word: user_phone and userPhone, but not microphone, nor iPhone.
    """
    spellings = []
    for name in names.split(", "):
        spelling = name.replace(" ", "[_. -]?")
        if len(name) > 6:
            spellings.append(f"(?i:{spelling})")
        else:
            spellings.append(rf"(?:\A|[^A-Za-z]|{CONTROL})(?i:{spelling})")
            spellings.append(f"[a-z]{{2}}{spelling[0].upper()}(?i:{spelling[1:]})")
    return f"(?:{'|'.join(spellings)})[0-9_]*"


_USER_ID = r"(?i:user[_. -]?ids?)[0-9_]*"
_SESSION_ID = r"(?i:sess(?:ion)?[_. -]?ids?)[0-9_]*"
SPELT = {"subject": _USER_ID, "session": _SESSION_ID} | {
    kind: _spelt(names) for kind, names in _NAMES.items()
}
