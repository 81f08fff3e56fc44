# Every attribute of a key's objects, by PyKCS11.
import os
import sys

from PyKCS11 import *

lib = PyKCS11Lib()
lib.load(os.environ["M"])
slot = next(s for s in lib.getSlotList(tokenPresent=True) if lib.getTokenInfo(s).label.strip() == "claviger")
session = lib.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
session.login(os.environ["PIN"])
for label in sys.argv[1:]:
    for kind in (CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_CERTIFICATE):
        print("==", CKO[kind], label)
        for o in session.findObjects([(CKA_LABEL, label), (CKA_CLASS, kind)]):
            for name in sorted(n for n in CKA if isinstance(n, str) and "VENDOR" not in n):
                try:
                    (value,) = session.getAttributeValue(o, [CKA[name]])
                except PyKCS11Error as e:
                    value = e
                if value is None:
                    continue  # absent, or its value is secret
                if isinstance(value, (tuple, list)):
                    value = bytes(x for x in value if isinstance(x, int) and x < 256).hex() or "empty"
                print(name, value)
