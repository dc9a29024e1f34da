package api_test

import ()
