"""Visits the URLs of the arguments one after the other, with requests, and prints the last answer."""

import sys
import warnings

import requests

warnings.simplefilter("ignore")  # the certificate is the test's own
session = requests.Session()
session.verify = False
session.trust_env = False
for url in sys.argv[1:]:
    answer = session.get(url).text
print(answer)
