-- A tenant's counters and open reservations. One call of this script is one change: all of it, or nothing.
--
-- KEYS[1]  prefix of the tenant's keys, `q:{tenant}:`. All keys share that hash tag, so they are in one cluster slot.
-- ARGV[1]  what to do: reserve, extend, look, inspect, settle, release, renew, dead, build, rebuild, install. Each
--          function says what follows.
--
-- Counter, a hash:  k window, m metric, g generation, s snapshot of PostgreSQL that it was built from,
--                   w newest bucket, u used and r reserved within the window; rolling windows also u<n> and r<n>.
--                   Without k it is being built: g is its builder's, t says since when (ms).
-- Late, a list:     what was settled while a counter is being built, `xid started_us micro_usd tokens`.
-- Record, a string: an open reservation, {call, charged, {counter, bucket, amount, generation}…}; empty once settled.
-- `leases` and `dead`, sorted sets: when each reservation ends by itself, and those whose lease has ended.
--
-- Amounts are integers below 2^53, which Lua's doubles hold exactly.

local prefix = KEYS[1]
local LEASES, DEAD = prefix .. 'leases', prefix .. 'dead'
local BUCKETS = 61              -- of a rolling window: sixty, and the one that it has begun to leave
local KEPT_S = 40 * 86400       -- beyond the longest window; what is forgotten is built again from the ledger
local SETTLED_MS = 3600 * 1000  -- for so long a settlement may be repeated without being counted twice
local SWEPT_MAX = 20
local HELD_MAX = 20000         -- of more reservations than this it is not added up what they hold
local BUILDER_MS = 3000         -- a builder not done by then is taken for dead

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_s = now_us / 1000000

local function digits(number) return string.format('%.0f', number) end

-- First days of the month that holds a day, and of the next; days since 1970-01-01.
-- Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
local function month_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local function first(year, m)  -- m counts from March
    local e = math.floor(year / 400)
    local y = year - e * 400
    return e * 146097 + y * 365 + math.floor(y / 4) - math.floor(y / 100) + math.floor((153 * m + 2) / 5) - 719468
  end
  local year = yoe + era * 400
  if mp == 11 then return first(year, 11), first(year + 1, 0) end
  return first(year, mp), first(year, mp + 1)
end

local SECONDS = { minute = 60, hour = 3600, day = 86400 }

-- The bucket of a second, and the second at which the bucket ends (nil: never).
local function bucket_at(window, second)
  local kind, unit = string.match(window, '^(%a+):?(%w*)$')
  if kind == 'ever' then return 0, nil end
  if kind == 'rolling' then
    local length = tonumber(unit) / (BUCKETS - 1)
    local number = math.floor(second / length)
    return number, (number + 1) * length
  end
  if SECONDS[unit] then
    local start = math.floor(second / SECONDS[unit]) * SECONDS[unit]
    return start, start + SECONDS[unit]
  end
  local day = math.floor(second / 86400)
  if unit == 'week' then
    local monday = day - (day + 3) % 7
    return monday * 86400, (monday + 7) * 86400
  end
  local first, following = month_of(day)
  return first * 86400, following * 86400
end

local function within(counter, bucket)
  if counter.rolling then return bucket > counter.b - BUCKETS and bucket <= counter.b end
  return bucket == counter.b
end

local function save(counter)
  redis.call('HSET', counter.key, 'w', digits(counter.b), 'u', digits(counter.u), 'r', digits(counter.r))
end

-- Leave behind the buckets that the window has left.
local function advance(counter, from)
  if counter.rolling then
    local names = {}
    for bucket = from - BUCKETS + 1, math.min(from, counter.b - BUCKETS) do
      names[#names + 1] = 'u' .. digits(bucket)
      names[#names + 1] = 'r' .. digits(bucket)
    end
    if #names > 0 then
      local amounts = redis.call('HMGET', counter.key, unpack(names))
      for i = 1, #names, 2 do
        counter.u = counter.u - tonumber(amounts[i] or 0)
        counter.r = counter.r - tonumber(amounts[i + 1] or 0)
      end
      redis.call('HDEL', counter.key, unpack(names))
    end
  else
    counter.u, counter.r = 0, 0
  end
  save(counter)
  redis.call('EXPIRE', counter.key, KEPT_S)
end

-- The counter as of now, or nil when it has to be built first.
local function load(name)
  local key = prefix .. name
  local found = redis.call('HMGET', key, 'k', 'w', 'u', 'r', 'g', 'm')
  if not found[1] then return nil end
  local counter = { key = key, name = name, window = found[1], u = tonumber(found[3]), r = tonumber(found[4]),
                    g = found[5], metric = found[6], rolling = string.sub(found[1], 1, 7) == 'rolling' }
  local newest = tonumber(found[2])
  counter.b, counter.ends = bucket_at(counter.window, now_s)
  if counter.b < newest then counter.b = newest end  -- the clock was set back
  if counter.b > newest then advance(counter, newest) end
  return counter
end

-- Count in a bucket. One that the window has left counts no more.
local function add(counter, bucket, used, reserved)
  if not within(counter, bucket) or (used == 0 and reserved == 0) then return end
  counter.u, counter.r = counter.u + used, counter.r + reserved
  if counter.rolling then
    if used ~= 0 then redis.call('HINCRBY', counter.key, 'u' .. digits(bucket), digits(used)) end
    if reserved ~= 0 then redis.call('HINCRBY', counter.key, 'r' .. digits(bucket), digits(reserved)) end
  end
  save(counter)
end

local function record_key(id) return prefix .. 'r:' .. id end

-- The open reservation; nil when there is none, false when it is settled already.
local function record_of(id)
  local packed = redis.call('GET', record_key(id))
  if not packed then return nil end
  if packed == '' then return false end
  return cmsgpack.unpack(packed)
end

local function keep(id, record) redis.call('SET', record_key(id), cmsgpack.pack(record)) end

local function lease(id, lease_ms) redis.call('ZADD', LEASES, digits(now_us / 1000 + lease_ms), id) end

local function close(id)
  redis.call('SET', record_key(id), '', 'PX', SETTLED_MS)
  redis.call('ZREM', LEASES, id)
  redis.call('ZREM', DEAD, id)
end

-- Charge reservations whose lease has ended by what they reserved. What they really used is settled later.
local function sweep(ahead_ms, count)
  local ids = redis.call('ZRANGEBYSCORE', LEASES, '-inf', digits(now_us / 1000 + ahead_ms), 'LIMIT', 0, count)
  for _, id in ipairs(ids) do
    redis.call('ZREM', LEASES, id)
    local record = record_of(id)
    if record then
      for _, item in ipairs(record[3]) do
        local counter = load(item[1])
        if counter and counter.g == item[4] then
          add(counter, item[2], counter.metric == 'parallel' and 0 or item[3], -item[3])
        end
      end
      record[2] = true
      keep(id, record)
      redis.call('ZADD', DEAD, digits(now_us / 1000), id)
    end
  end
end

-- Milliseconds until that much more fits; -1 when waiting does not help.
local function wait_ms(counter, limit, amount)
  if amount > limit then return -1 end
  if counter.metric == 'parallel' then return 1000 end
  if not counter.ends then return -1 end
  if not counter.rolling then return math.ceil(counter.ends * 1000 - now_us / 1000) end
  local length = tonumber(string.match(counter.window, '%d+')) / (BUCKETS - 1)
  local missing = counter.u + counter.r + amount - limit
  local names = {}
  for bucket = counter.b - BUCKETS + 1, counter.b do
    names[#names + 1] = 'u' .. digits(bucket)
    names[#names + 1] = 'r' .. digits(bucket)
  end
  local amounts = redis.call('HMGET', counter.key, unpack(names))
  for i = 1, #names, 2 do
    missing = missing - tonumber(amounts[i] or 0) - tonumber(amounts[i + 1] or 0)
    if missing <= 0 then
      local leaving = counter.b - BUCKETS + (i + 1) / 2
      return math.ceil((leaving + BUCKETS) * length * 1000 - now_us / 1000)
    end
  end
  return math.ceil(length * (BUCKETS - 1) * 1000)
end

-- Numbers travel as one text, here and in what is asked: a value of its own costs the caller three times as much.
local function state_of(counters)
  local told = {}
  for _, counter in ipairs(counters) do
    local ends_ms = -1
    if counter.rolling then
      ends_ms = tonumber(string.match(counter.window, '%d+')) * 1000
    elseif counter.ends then
      ends_ms = math.ceil(counter.ends * 1000 - now_us / 1000)
    end
    told[#told + 1] = digits(counter.u)
    told[#told + 1] = digits(counter.r)
    told[#told + 1] = digits(ends_ms)
  end
  return { 'ok', digits(now_us), table.concat(told, ' ') }
end

-- Counters from a text of four words each: name, limit, amount, whether the limit is hard.
-- The second value is an answer that stands instead: `missing` with places from 0, or `refused`.
local function fitting(wanted)
  local counters, missing, refused, place = {}, { 'missing' }, nil, -1
  for name, limit, amount, hard in string.gmatch(wanted, '(%S+) (%S+) (%S+) (%S+)') do
    local counter = load(name)
    place = place + 1
    if not counter then
      missing[#missing + 1] = place
    else
      limit, amount = tonumber(limit), tonumber(amount)
      counter.amount = amount
      if hard == '1' and amount > 0 and counter.u + counter.r + amount > limit then
        local wait = wait_ms(counter, limit, amount)
        if not refused or wait == -1 or (refused[5] ~= -1 and wait > refused[5]) then
          refused = { 'refused', place, counter.u, counter.r, wait }
        end
      end
      counters[#counters + 1] = counter
    end
  end
  if #missing > 1 then return counters, missing end
  return counters, refused
end

-- reserve id lease_ms call '(name limit amount hard)…'
local function reserve()
  local id = ARGV[2]
  sweep(0, SWEPT_MAX)
  local counters, instead = fitting(ARGV[5])
  local record = record_of(id)
  if record ~= nil then return state_of(counters) end
  if instead then return instead end
  local items = {}
  for i, counter in ipairs(counters) do
    add(counter, counter.b, 0, counter.amount)
    items[i] = { counter.name, counter.b, counter.amount, counter.g }
  end
  keep(id, { digits(now_us) .. ' ' .. ARGV[4], false, items })
  lease(id, tonumber(ARGV[3]))
  return state_of(counters)
end

-- extend id lease_ms '(name limit amount hard)…'   reserve more for an open reservation
local function extend()
  local id = ARGV[2]
  local record = record_of(id)
  if not record or record[2] then return { 'gone' } end
  local counters, instead = fitting(ARGV[4])
  if instead then return instead end
  for _, counter in ipairs(counters) do
    for _, item in ipairs(record[3]) do
      if item[1] == counter.name and item[4] == counter.g then
        add(counter, item[2], 0, counter.amount)
        item[3] = item[3] + counter.amount
      end
    end
  end
  keep(id, record)
  lease(id, tonumber(ARGV[3]))
  return state_of(counters)
end

-- look '(name limit amount hard)…'   how counters stand; nothing is changed
local function look()
  sweep(0, SWEPT_MAX)
  local counters, instead = fitting(ARGV[2])
  return instead or state_of(counters)
end

-- inspect name     used, reserved, what the open reservations hold together, the newest bucket, (bucket used)…
local function inspect()
  sweep(0, SWEPT_MAX)
  local counter = load(ARGV[2])
  if not counter then return { 'missing' } end
  local held = counter.r
  if redis.call('ZCARD', LEASES) <= HELD_MAX then
    held = 0
    for _, id in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
      local record = record_of(id)
      for _, item in ipairs(record and record[3] or {}) do
        if item[1] == counter.name and item[4] == counter.g and within(counter, item[2]) then held = held + item[3] end
      end
    end
  end
  local told = { digits(counter.u), digits(counter.r), digits(held), digits(counter.b) }
  if not counter.rolling then
    told[#told + 1] = digits(counter.b)
    told[#told + 1] = digits(counter.u)
  else
    for bucket = counter.b - BUCKETS + 1, counter.b do
      local used = redis.call('HGET', counter.key, 'u' .. digits(bucket))
      if used then
        told[#told + 1] = digits(bucket)
        told[#told + 1] = used
      end
    end
  end
  return { 'there', table.concat(told, ' ') }
end

-- Whether a transaction was in a snapshot, in PostgreSQL's text form xmin:xmax:xip,…
local function visible(snapshot, xid)
  local xmin, xmax, running = string.match(snapshot, '^(%d+):(%d+):(.*)$')
  if xid < tonumber(xmin) then return true end
  if xid >= tonumber(xmax) then return false end
  for one in string.gmatch(running, '%d+') do
    if tonumber(one) == xid then return false end
  end
  return true
end

local function late_key(name) return prefix .. 'late:' .. name end

-- Count a row of the ledger, unless the counter was built from a snapshot that had it.
local function count_row(counter, xid, started_s, used)
  if not visible(redis.call('HGET', counter.key, 's'), xid) then
    add(counter, bucket_at(counter.window, started_s), used[counter.metric], 0)
  end
end

-- settle id xid started_us micro_usd tokens '(name limit)…'
-- The ledger's row is committed by transaction `xid`. A counter that does not know the reservation (it was lost, or the
-- counter is younger) counts the row unless it was built from a snapshot that had it. Answers with the names of those of
-- which all is used.
local function settle()
  local id, xid, started_s = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]) / 1000000
  local used = { micro_usd = tonumber(ARGV[5]), tokens = tonumber(ARGV[6]), requests = 1, parallel = 0 }
  local record = record_of(id)
  if record == false then return {} end
  local known, full = {}, {}
  for _, item in ipairs(record and record[3] or {}) do
    local counter = load(item[1])
    if counter and counter.g == item[4] then
      local charged = record[2] and counter.metric ~= 'parallel' and item[3] or 0
      add(counter, item[2], used[counter.metric] - charged, record[2] and 0 or -item[3])
      known[item[1]] = counter
    end
  end
  for name, limit in string.gmatch(ARGV[7], '(%S+) (%S+)') do
    local counter = known[name] or load(name)
    if counter and not known[name] then count_row(counter, xid, started_s, used) end
    if counter and counter.u >= tonumber(limit) then full[#full + 1] = name end
    if not counter and redis.call('EXISTS', prefix .. name) == 1 then
      redis.call('RPUSH', late_key(name), table.concat({ ARGV[3], ARGV[4], ARGV[5], ARGV[6] }, ' '))
      redis.call('PEXPIRE', late_key(name), SETTLED_MS)
    end
  end
  close(id)
  return full
end

-- release id      nothing was used, and no row of the ledger will say so
local function release()
  local record = record_of(ARGV[2])
  if not record then return { 'done' } end
  for _, item in ipairs(record[3]) do
    local counter = load(item[1])
    if counter and counter.g == item[4] then
      add(counter, item[2], record[2] and counter.metric ~= 'parallel' and -item[3] or 0, record[2] and 0 or -item[3])
    end
  end
  close(ARGV[2])
  return { 'done' }
end

-- renew lease_ms id…      answers with the ids that have no lease
local function renew()
  local lost = {}
  for i = 3, #ARGV do
    if redis.call('ZSCORE', LEASES, ARGV[i]) then
      lease(ARGV[i], tonumber(ARGV[2]))
    else
      lost[#lost + 1] = ARGV[i]
    end
  end
  return lost
end

-- dead ahead_ms count      (id, call)… of reservations whose lease has ended, or ends within `ahead_ms`
local function dead()
  sweep(tonumber(ARGV[2]), tonumber(ARGV[3]))
  local told = {}
  for _, id in ipairs(redis.call('ZRANGE', DEAD, 0, tonumber(ARGV[3]) - 1)) do
    local record = record_of(id)
    if record then
      told[#told + 1] = id
      told[#told + 1] = record[1]
    else
      redis.call('ZREM', DEAD, id)
    end
  end
  return told
end

-- build name builder     whether the caller may build the counter, by `install`; rows settled from here on are kept
local function build()
  local key = prefix .. ARGV[2]
  local found = redis.call('HMGET', key, 'k', 't')
  if found[1] then return { 'there' } end
  if found[2] and now_us / 1000 - tonumber(found[2]) < BUILDER_MS then return { 'wait' } end
  redis.call('HSET', key, 'g', ARGV[3], 't', digits(now_us / 1000))
  redis.call('EXPIRE', key, 60)
  return { 'build' }
end

-- rebuild name builder   forget a counter that is not what it should be, and let the caller build it
local function rebuild()
  redis.call('DEL', prefix .. ARGV[2], late_key(ARGV[2]))
  return build()
end

-- install name window metric builder snapshot lease_ms buckets (started_s used)… (id started_us amount call)…
-- The counter as the ledger says, by the builder that `build` let.
local function install()
  local name = ARGV[2]
  local key = prefix .. name
  local found = redis.call('HMGET', key, 'k', 'g')
  if found[1] or found[2] ~= ARGV[5] then return { 'there' } end
  local window, metric, generation = ARGV[3], ARGV[4], ARGV[5]
  redis.call('HSET', key, 'k', window, 'm', metric, 's', ARGV[6], 'u', 0, 'r', 0, 'w',
             digits((bucket_at(window, now_s))))
  redis.call('HDEL', key, 't')
  redis.call('EXPIRE', key, KEPT_S)
  local counter = load(name)
  local after = 9 + 2 * tonumber(ARGV[8])
  for i = 9, after - 1, 2 do add(counter, bucket_at(window, tonumber(ARGV[i])), tonumber(ARGV[i + 1]), 0) end
  for i = after, #ARGV, 4 do
    local id, amount = ARGV[i], tonumber(ARGV[i + 2])
    local record = record_of(id)
    if record ~= false then
      local bucket = bucket_at(window, tonumber(ARGV[i + 1]) / 1000000)
      record = record or { ARGV[i + 1] .. ' ' .. ARGV[i + 3], false, {} }
      if record[2] then
        add(counter, bucket, metric == 'parallel' and 0 or amount, 0)
      else
        add(counter, bucket, 0, amount)
        if not redis.call('ZSCORE', LEASES, id) then lease(id, tonumber(ARGV[7])) end
      end
      local items = {}
      for _, item in ipairs(record[3]) do
        if item[1] ~= name then items[#items + 1] = item end
      end
      items[#items + 1] = { name, bucket, amount, generation }
      record[3] = items
      keep(id, record)
    end
  end
  for _, row in ipairs(redis.call('LRANGE', late_key(name), 0, -1)) do
    local xid, started_us, micro_usd, tokens = string.match(row, '(%S+) (%S+) (%S+) (%S+)')
    local used = { micro_usd = tonumber(micro_usd), tokens = tonumber(tokens), requests = 1, parallel = 0 }
    count_row(counter, tonumber(xid), tonumber(started_us) / 1000000, used)
  end
  redis.call('DEL', late_key(name))
  return { 'built' }
end

local ACTIONS = { reserve = reserve, extend = extend, look = look, inspect = inspect, settle = settle,
                  release = release, renew = renew, dead = dead, build = build, rebuild = rebuild, install = install }
return ACTIONS[ARGV[1]]()
