# Each client gets a token and its rules from api.weixin.qq.com, without configuration for qrjump.
use strict;
use warnings;

my ($name) = @ARGV;

sub lwp {
	my ( $method, $url, $body ) = @_;
	require LWP::UserAgent;
	require HTTP::Request;
	return LWP::UserAgent->new->request( HTTP::Request->new( $method, $url, undef, $body ) )->decoded_content;
}

sub tiny {
	my ( $method, $url, $body ) = @_;
	require HTTP::Tiny;
	return HTTP::Tiny->new( verify_SSL => 1 )->request( $method, $url, { content => $body } )->{content};
}

sub mojo {
	my ( $method, $url, $body ) = @_;
	require Mojo::UserAgent;
	my $agent = Mojo::UserAgent->new;
	return $agent->start( $agent->build_tx( $method => $url => $body ) )->result->body;
}

my $call = { 'LWP' => \&lwp, 'HTTP::Tiny' => \&tiny, 'Mojo::UserAgent' => \&mojo }->{$name};
my ($token) = $call->( 'GET', 'https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential'
	  . "&appid=$ENV{QRJUMP_APPID}&secret=$ENV{QRJUMP_SECRET}", '' ) =~ /"access_token":"([^"]+)"/ or die 'no token';
print "$token\n", $call->( 'POST', "https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token=$token", '{"get_type":0}' ), "\n";
