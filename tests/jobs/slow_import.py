"""What a launcher may be busy importing when its worker is told to end."""

import time

time.sleep(600)
