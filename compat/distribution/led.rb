# Each client gets a token and its rules from api.weixin.qq.com, without configuration for qrjump.
require 'json'
require 'uri'

CLIENTS = {
  'Net::HTTP' => lambda { |method, url, body|
    require 'net/http'
    method == 'GET' ? Net::HTTP.get(URI(url)) : Net::HTTP.post(URI(url), body).body
  },
  'http.rb' => lambda { |method, url, body|
    require 'http'
    proxy = URI(ENV['HTTPS_PROXY'])
    client = BY_LINE ? HTTP.via(proxy.host, proxy.port) : HTTP
    client.request(method, url, body: body).to_s
  },
  'Faraday' => lambda { |method, url, body|
    require 'faraday'
    Faraday.run_request(method.downcase.to_sym, url, body, nil).body
  },
  'HTTParty' => lambda { |method, url, body|
    require 'httparty'
    HTTParty.send(method.downcase, url, body: body).body
  },
  'rest-client' => lambda { |method, url, body|
    require 'rest-client'
    RestClient::Request.execute(method: method, url: url, payload: body).body
  },
  'Excon' => lambda { |method, url, body|
    require 'excon'
    Excon.new(url).request(method: method, body: body).body
  },
  'HTTPClient' => lambda { |method, url, body|
    require 'httpclient'
    HTTPClient.new.request(method, url, body: body).body
  },
  'Typhoeus' => lambda { |method, url, body|
    require 'typhoeus'
    options = BY_LINE ? { cainfo: ENV['SSL_CERT_FILE'] } : {}
    Typhoeus::Request.new(url, method: method.downcase.to_sym, body: body, **options).run.body
  }
}.freeze

BY_LINE = ARGV[1] == 'line'
call = CLIENTS.fetch(ARGV[0])
token = JSON.parse(call.call('GET', 'https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential' \
                                    "&appid=#{ENV['QRJUMP_APPID']}&secret=#{ENV['QRJUMP_SECRET']}", nil))['access_token']
puts token
puts call.call('POST', "https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token=#{token}", '{"get_type":0}')
