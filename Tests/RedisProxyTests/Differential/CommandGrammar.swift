/// What random commands look like, in a small language. A line is one form of a command: `$x` stands for a random argument of a
/// kind (``CommandGenerator``), `a|b` for one of the words, `[ … ]` for a part that may be missing and `( … )` for a part that
/// comes one to three times. Commands of the table without a line get arguments by their arity and key positions alone.
enum CommandGrammar {
    static let forms: [[String]] = text.split(separator: "\n").map {
        $0.split(separator: " ").map(String.init)
    }.filter { !$0.isEmpty }

    private static let text = """
        SET $s $v [ NX|XX ] [ GET ] [ EX 5000 ]
        SET $s $v [ KEEPTTL ]
        SET $s $v PXAT 4102444800000
        SET $n $i
        GET $s
        GETEX $s [ PERSIST ]
        GETEX $s EX 5000
        GETSET $s $v
        GETDEL $s
        SETEX $s 5000 $v
        PSETEX $s 5000000 $v
        SETNX $s $v
        SETRANGE $s $n $v
        GETRANGE $s $i $i
        SUBSTR $s $i $i
        STRLEN $s
        APPEND $s $v
        INCR $n
        DECR $n
        INCRBY $n $i
        DECRBY $n $i
        INCRBYFLOAT $n $f
        MGET ( $k )
        MSET ( $s $v )
        MSETNX ( $s $v )
        LCS $s $s [ LEN|IDX ]
        LCS $s $s IDX MINMATCHLEN 1 WITHMATCHLEN
        SETBIT $b $c 0|1
        GETBIT $b $c
        BITCOUNT $b [ $i $i ]
        BITCOUNT $b $i $i BIT|BYTE
        BITPOS $b 0|1 [ $i ]
        BITPOS $b 0|1 $i $i [ BIT|BYTE ]
        BITOP AND|OR|XOR $b ( $b )
        BITOP NOT $b $b
        BITFIELD $b SET u8 $c $c GET i5 $c
        BITFIELD $b OVERFLOW SAT|FAIL|WRAP INCRBY u4 $c $i
        BITFIELD_RO $b GET u8 $c
        DEL ( $k )
        UNLINK ( $k )
        EXISTS ( $k )
        TOUCH ( $k )
        TYPE $k
        EXPIRE $k 5000 [ NX|XX|GT|LT ]
        EXPIREAT $k 4102444800 [ NX|XX|GT|LT ]
        PEXPIRE $k 5000000 [ NX|XX|GT|LT ]
        PEXPIREAT $k 4102444800000
        EXPIRE $k -1
        PERSIST $k
        TTL $k
        PTTL $k
        EXPIRETIME $k
        PEXPIRETIME $k
        RENAME $k $k
        RENAMENX $k $k
        COPY $k $k [ DB $d ] [ REPLACE ]
        MOVE $k $d
        DUMP $k
        RESTORE $k 0 $dump [ REPLACE ]
        RESTORE $k 0 rubbish
        RESTORE-ASKING $k 0 $dump REPLACE
        OBJECT ENCODING|REFCOUNT $k
        OBJECT FREQ|IDLETIME|HELP $k
        MEMORY USAGE $k [ SAMPLES $c ]
        RANDOMKEY
        DBSIZE
        KEYS $pattern
        SCAN 0 COUNT 100000 [ MATCH $pattern ] [ TYPE string|list|set|hash|zset|stream ]
        SCAN x
        SWAPDB $d $d
        FLUSHDB [ ASYNC|SYNC ]
        FLUSHALL [ ASYNC|SYNC ]
        SORT $l [ BY w* ] [ LIMIT $c $c ] [ GET # ] [ ASC|DESC ] [ ALPHA ]
        SORT $l ALPHA STORE $l
        SORT $t ALPHA
        SORT_RO $l [ LIMIT $c $c ] ALPHA
        LPUSH $l ( $m )
        RPUSH $l ( $m )
        LPUSHX $l $m
        RPUSHX $l $m
        LPOP $l [ $c ]
        RPOP $l [ $c ]
        LLEN $l
        LINDEX $l $i
        LSET $l $i $m
        LRANGE $l $i $i
        LTRIM $l $i $i
        LREM $l $i $m
        LINSERT $l BEFORE|AFTER $m $m
        LPOS $l $m [ RANK $i ] [ COUNT $c ] [ MAXLEN $c ]
        LMOVE $l $l LEFT|RIGHT LEFT|RIGHT
        RPOPLPUSH $l $l
        LMPOP 2 $l $l LEFT|RIGHT [ COUNT $c ]
        BLPOP $l $l 0.01
        BRPOP $l 0.01
        BLMOVE $l $l LEFT|RIGHT LEFT|RIGHT 0.01
        BRPOPLPUSH $l $l 0.01
        BLMPOP 0.01 2 $l $l LEFT|RIGHT
        BZPOPMIN $z 0.01
        BZPOPMAX $z $z 0.01
        BZMPOP 0.01 1 $z MIN|MAX
        BLPOP $l x
        BLPOP $l -1
        SADD $t ( $m )
        SADD $t ( $i )
        SREM $t ( $m )
        SCARD $t
        SISMEMBER $t $m
        SMISMEMBER $t ( $m )
        SMEMBERS $t
        SMOVE $t $t $m
        SPOP $t 100000
        SRANDMEMBER $t [ $i ]
        SSCAN $t 0 COUNT 100000 [ MATCH $pattern ]
        SUNION ( $t )
        SINTER ( $t )
        SDIFF ( $t )
        SUNIONSTORE $t ( $t )
        SINTERSTORE $t ( $t )
        SDIFFSTORE $t ( $t )
        SINTERCARD 2 $t $t [ LIMIT $c ]
        HSET $h ( $m $v )
        HSETNX $h $m $v
        HMSET $h ( $m $v )
        HGET $h $m
        HMGET $h ( $m )
        HGETALL $h
        HKEYS $h
        HVALS $h
        HLEN $h
        HDEL $h ( $m )
        HEXISTS $h $m
        HSTRLEN $h $m
        HINCRBY $h num $i
        HINCRBYFLOAT $h num $f
        HRANDFIELD $h [ $i ]
        HRANDFIELD $h $i WITHVALUES
        HSCAN $h 0 COUNT 100000
        ZADD $z ( $f $m )
        ZADD $z NX|XX [ CH ] $f $m
        ZADD $z GT|LT $f $m
        ZADD $z INCR $f $m
        ZINCRBY $z $f $m
        ZREM $z ( $m )
        ZCARD $z
        ZSCORE $z $m
        ZMSCORE $z ( $m )
        ZRANK $z $m
        ZREVRANK $z $m
        ZCOUNT $z $score $score
        ZLEXCOUNT $z $lex $lex
        ZRANGE $z $i $i [ REV ] [ WITHSCORES ]
        ZRANGE $z $score $score BYSCORE [ LIMIT $c $c ]
        ZRANGE $z $lex $lex BYLEX
        ZRANGESTORE $z $z $i $i
        ZREVRANGE $z $i $i [ WITHSCORES ]
        ZRANGEBYSCORE $z $score $score [ WITHSCORES ] [ LIMIT $c $c ]
        ZREVRANGEBYSCORE $z $score $score [ WITHSCORES ]
        ZRANGEBYLEX $z $lex $lex [ LIMIT $c $c ]
        ZREVRANGEBYLEX $z $lex $lex
        ZREMRANGEBYRANK $z $i $i
        ZREMRANGEBYSCORE $z $score $score
        ZREMRANGEBYLEX $z $lex $lex
        ZPOPMIN $z [ $c ]
        ZPOPMAX $z [ $c ]
        ZMPOP 2 $z $z MIN|MAX [ COUNT $c ]
        ZRANDMEMBER $z [ $i ]
        ZRANDMEMBER $z $i WITHSCORES
        ZSCAN $z 0 COUNT 100000
        ZUNION 2 $z $z [ WEIGHTS 1 2 ] [ AGGREGATE SUM|MIN|MAX ] [ WITHSCORES ]
        ZINTER 2 $z $z [ WITHSCORES ]
        ZDIFF 2 $z $z [ WITHSCORES ]
        ZINTERCARD 2 $z $z [ LIMIT $c ]
        ZUNIONSTORE $z 2 $z $t
        ZINTERSTORE $z 2 $z $z [ WEIGHTS 1 2 ]
        ZDIFFSTORE $z 2 $z $z
        GEOADD $g 13.361389 38.115556 Palermo 15.087269 37.502669 $m
        GEODIST $g Palermo $m [ m|km|ft|mi ]
        GEOHASH $g ( $m )
        GEOPOS $g Palermo ( $m )
        GEORADIUS $g 15 37 200 km [ WITHCOORD ] [ WITHDIST ] [ WITHHASH ] [ COUNT 3 ] [ ASC|DESC ]
        GEORADIUS $g 15 37 200 km STORE $g
        GEORADIUS_RO $g 15 37 200 km
        GEORADIUSBYMEMBER $g Palermo 200 km [ WITHDIST ]
        GEORADIUSBYMEMBER_RO $g $m 200 km
        GEOSEARCH $g FROMMEMBER Palermo BYRADIUS 200 km ASC [ WITHDIST ]
        GEOSEARCH $g FROMLONLAT 15 37 BYBOX 400 400 km
        GEOSEARCHSTORE $g $g FROMLONLAT 15 37 BYBOX 400 400 km [ STOREDIST ]
        PFADD $p ( $m )
        PFCOUNT ( $p )
        PFMERGE $p ( $p )
        PFDEBUG ENCODING $p
        XADD $x [ NOMKSTREAM ] [ MAXLEN $c ] $id ( $m $v )
        XADD $x 9-* $m $v
        XLEN $x
        XRANGE $x - + [ COUNT $c ]
        XRANGE $x $id $id
        XREVRANGE $x + - [ COUNT $c ]
        XREAD [ COUNT $c ] STREAMS $x $x 0 $id
        XREAD BLOCK 5 STREAMS $x $
        XREADGROUP GROUP g c1|c2 [ COUNT $c ] STREAMS $x >|0
        XREADGROUP GROUP g c1 BLOCK 5 STREAMS $x >
        XGROUP CREATE $x g|g2 0|$ [ MKSTREAM ]
        XGROUP DESTROY $x g2
        XGROUP SETID $x g 0
        XGROUP CREATECONSUMER|DELCONSUMER $x g c1|c2
        XACK $x g ( $id )
        XCLAIM $x g c2 0 $id [ JUSTID ]
        XAUTOCLAIM $x g c1 0 0 [ COUNT 3 ] [ JUSTID ]
        XPENDING $x g
        XPENDING $x g - + 10 [ c1 ]
        XINFO STREAM $x [ FULL ]
        XINFO GROUPS $x
        XINFO CONSUMERS $x g
        XDEL $x ( $id )
        XTRIM $x MAXLEN|MINID $c
        XSETID $x 99-1
        EVAL return{KEYS[1],ARGV[1],redis.call('type',KEYS[1])} 1 $k $v
        EVAL return(redis.call('set',KEYS[1],ARGV[1])) 1 $s $v
        EVAL return(redis.pcall('lpush',KEYS[1],'x')) 1 $k
        EVAL return(redis.call('nosuch')) 0
        EVAL error('boom') 0
        EVAL return(redis.error_reply('MY\\040error')) 0
        EVAL return{1,2.5,'x',{true,false},redis.status_reply('FINE')} $c
        EVAL redis.setresp(3);return(redis.call('zadd',KEYS[1],'1.5','m')) 1 $z
        EVAL_RO return(redis.call('get',KEYS[1])) 1 $s
        EVAL_RO return(redis.call('set',KEYS[1],1)) 1 $s
        EVALSHA $sha 1 $s $v
        EVALSHA_RO $sha 0
        SCRIPT LOAD return{ARGV[1]}
        SCRIPT EXISTS $sha $sha
        SCRIPT FLUSH
        SCRIPT KILL
        FUNCTION LOAD REPLACE $library
        FUNCTION LIST [ WITHCODE ]
        FUNCTION DELETE lib
        FUNCTION FLUSH [ SYNC ]
        FUNCTION STATS
        FUNCTION DUMP
        FUNCTION KILL
        FCALL put 1 $s $v
        FCALL_RO look 1 $s
        FCALL nosuch 0
        PUBLISH c1|c2 $m
        SPUBLISH c1|c2 $m
        PUBSUB CHANNELS|SHARDCHANNELS [ c* ]
        PUBSUB NUMSUB|SHARDNUMSUB c1 c2
        PUBSUB NUMPAT
        MULTI
        MULTI
        MULTI
        MULTI
        EXEC
        EXEC
        EXEC
        EXEC
        EXEC
        EXEC
        DISCARD
        WATCH ( $k )
        UNWATCH
        SELECT $d
        SELECT 0
        SELECT 99
        SELECT x
        PING [ $v ]
        ECHO $v
        AUTH secret
        AUTH nobody secret
        CLIENT SETNAME $m
        CLIENT GETNAME
        CLIENT NO-EVICT ON|OFF
        CLIENT ID
        CLIENT INFO
        CLIENT LIST TYPE normal
        CLIENT GETREDIR
        CLIENT TRACKINGINFO
        CLIENT CACHING YES
        CLIENT KILL ID 999999999
        CLIENT KILL 10.1.2.3:4
        CLIENT UNBLOCK 999999999
        CLIENT SETINFO LIB-NAME x
        CLIENT NO-TOUCH ON
        CLIENT UNPAUSE
        CLIENT REPLY ON
        CLIENT REPLY NOSUCH
        CLIENT TRACKING OFF
        CLIENT TRACKING NOSUCH
        COMMAND COUNT
        COMMAND LIST FILTERBY ACLCAT hash
        COMMAND INFO get xgroup nosuch
        COMMAND GETKEYS $words
        COMMAND GETKEYSANDFLAGS $words
        COMMAND DOCS get
        CONFIG GET maxmemory
        CONFIG GET maxmemory*
        CONFIG SET maxmemory-samples 5
        CONFIG SET nosuch 1
        ACL WHOAMI
        ACL CAT [ hash ]
        ACL USERS|LIST
        ACL GETUSER default|nobody
        ACL DRYRUN default GET $s
        ACL GENPASS 32
        WAIT 0 1
        WAIT 1 5
        TIME
        LASTSAVE
        INFO server
        ROLE
        LOLWUT VERSION 5
        SLOWLOG LEN
        LATENCY LATEST|RESET
        LATENCY HISTORY x
        MODULE LIST
        CLUSTER INFO|NODES|SLOTS|SHARDS
        CLUSTER KEYSLOT $k
        READONLY
        READWRITE
        ASKING
        DEBUG OBJECT $k
        NOSUCH $v $v
        CONFIG|CLIENT|XGROUP|OBJECT|ACL|SCRIPT|FUNCTION|MEMORY|COMMAND|PUBSUB|LATENCY|SLOWLOG|MODULE|CLUSTER HELP
        CONFIG|CLIENT|XGROUP|OBJECT|ACL|SCRIPT|FUNCTION|MEMORY|COMMAND|PUBSUB|LATENCY|SLOWLOG|MODULE|CLUSTER|XINFO nosuch
        """
}
