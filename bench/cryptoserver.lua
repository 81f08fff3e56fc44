-- wrk sends bodies of 32 bytes, a thousand different ones in turn.
local requests, n = {}, 0
function init()
  for i = 1, 1000 do
    requests[i] = wrk.format("POST", "/hmac", nil, string.format("%032d", i))
  end
end
function request()
  n = n % 1000 + 1
  return requests[n]
end
